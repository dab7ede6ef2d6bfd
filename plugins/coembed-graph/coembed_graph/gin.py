"""`graph/gin`: message passing over typed edges."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import GINEConv

from coembed_graph.base import GraphEncoder


def gine(dim: int) -> GINEConv:
    """One round of messages: MLP((1 + eps) x_i + sum over edges of ReLU(x_j + e_ji)), eps learned.

    Source: Hu et al. 2020, Strategies for Pre-training Graph Neural Networks, after Xu et al. 2019, eq. 4.1.

    >>> gine(4).eps.tolist()
    [0.0]
    """
    return GINEConv(nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim)), train_eps=True)


class GinBlock(nn.Module):
    """A round of messages with a residual; layer norm before it, so that a graph never sees its batch."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.messages = gine(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, edges: Tensor, kinds: Tensor, mask: Tensor) -> Tensor:
        """`x` [N, D], `edges` [2, E], `kinds` [E, D]; returns [N, D]. Messages need no `mask` of the dense batch."""
        update: Tensor = self.dropout(self.messages(self.norm(x), edges, kinds))
        return x + update


class Gin(GraphEncoder):
    """Encode graphs with GINE layers, trained from scratch.

    Items are what `coembed_graph.reader.Reader` takes, whose arguments are `node`, `edge`, `numbers`, `numeric`,
    `strings` and `most`. Texts of nodes hash into `buckets` rows; `edge_types` is a number of rows to hash types into,
    or the list of types. `positions` adds "rwpe" or "laplacian" encodings of `steps` columns. Nodes are the tokens,
    every layer is an early exit, weights come from `seed`. ValueError names an argument that cannot be.

    >>> from coembed import EncoderSpec
    >>> encoder = Gin.tiny(EncoderSpec(name="demo/gin", modality="graph", dim=32, target="demo:Gin"))
    >>> encoder.encode(encoder.samples()).values.shape, encoder.layers
    (torch.Size([5, 1, 32]), 2)
    """

    def block(self, dropout: float) -> GinBlock:
        """A round of messages."""
        return GinBlock(self.dim, dropout)
