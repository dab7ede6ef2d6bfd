"""Near-duplicates: the groups of a threshold graph, exactly those that brute force finds."""

from __future__ import annotations

import pytest
import torch

from coembed import Embedding
from coembed.index import Exact


def clumps(n: int, dim: int = 64) -> torch.Tensor:
    """Vectors of which many are close to others, at all distances."""
    g = torch.Generator().manual_seed(0)
    base = torch.randn(n // 5, dim, generator=g)
    at = torch.randint(0, n // 5, (n,), generator=g)
    return torch.nn.functional.normalize(
        base[at] + torch.rand(n, 1, generator=g) * 0.5 * torch.randn(n, dim, generator=g)
    )


def brute_force(x: torch.Tensor, threshold: float, kept: list[int]) -> list[list[str]]:
    near = (x.double() @ x.double().T) >= threshold
    groups, seen = [], set()
    for start in kept:
        if start in seen:
            continue
        group, edge = {start}, [start]
        while edge:
            edge = [j for i in edge for j in near[i].nonzero().flatten().tolist() if j in kept and j not in group]
            group |= set(edge)
        seen |= group
        if len(group) > 1:
            groups.append([f"id{i}" for i in sorted(group)])
    return groups


@pytest.mark.parametrize("coded", [100, 10**9])
@pytest.mark.parametrize("threshold", [0.7, 0.9, 0.99])
def test_groups_equal_brute_force(coded, threshold, monkeypatch, tmp_path):
    monkeypatch.setattr("coembed.index.segment.SKETCHED", coded)
    monkeypatch.setattr("coembed.index.duplicates._QUERIES", 37)
    x = clumps(600)
    index = Exact()
    index.add([f"id{i}" for i in range(400)], Embedding.from_vectors(x[:400]))
    index.delete([f"id{i}" for i in range(0, 400, 9)])
    index.save(tmp_path)
    index = Exact.load(tmp_path)
    index.add([f"id{i}" for i in range(400, 600)], Embedding.from_vectors(x[400:]))  # a second segment
    kept = [i for i in range(600) if i >= 400 or i % 9]
    wanted = brute_force(x, threshold, kept)
    assert index.duplicates(threshold) == wanted
    assert threshold > 0.95 or len(wanted) > 50


def test_keeping_the_first_of_each_group_leaves_no_duplicates():
    index = Exact()
    x = clumps(300)
    index.add([str(i) for i in range(300)], Embedding.from_vectors(x))
    index.delete([name for group in index.duplicates(0.9) for name in group[1:]])
    assert 0 < len(index) < 300
    kept = x[[int(name) for name in index.ids]]
    apart = kept @ kept.T
    assert index.duplicates(0.9) == [] and apart.fill_diagonal_(0).max() < 0.9


def test_copies_are_duplicates_and_nothing_has_none():
    index = Exact()
    assert index.duplicates() == []
    index.add(["a", "b", "c"], Embedding.from_vectors(torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.6, 0.8]])))
    assert index.duplicates(0.999) == [["a", "c"]]


def test_rows_of_several_vectors_are_refused():
    index = Exact()
    index.add(["a"], Embedding(torch.ones(1, 2, 4), torch.ones(1, 2, dtype=torch.bool)))
    with pytest.raises(ValueError, match=r"rows of one vector: add them as x\.pool"):
        index.duplicates()
