"""A round of GIN's messages is the published formula, edge by edge."""

from __future__ import annotations

import torch

from coembed_graph.gin import GinBlock


def test_messages_are_the_formula_on_parallel_edges_and_self_loops() -> None:
    torch.manual_seed(0)
    block = GinBlock(8, 0.0).eval()
    block.messages.eps.data.fill_(0.3)
    x, kinds = torch.randn(5, 8), torch.randn(7, 8)
    edges = torch.tensor([[0, 0, 1, 2, 3, 3, 0], [1, 1, 0, 2, 1, 2, 3]])  # 0-1 twice, 2-2; node 4 stays alone
    mask = torch.ones(1, 5, dtype=torch.bool)
    normed = block.norm(x)
    total = 1.3 * normed
    for (source, target), kind in zip(edges.T.tolist(), kinds, strict=True):
        total[target] = total[target] + torch.relu(normed[source] + kind)
    assert torch.allclose(block(x, edges, kinds, mask), x + block.messages.nn(total), atol=1e-6)
