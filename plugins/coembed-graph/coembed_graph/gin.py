"""`graph/gin`: message passing over typed edges."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch_geometric.nn import GINEConv

from coembed.nn import seeded
from coembed.spec import EncoderSpec
from coembed_graph.base import GraphEncoder
from coembed_graph.positions import check_positions
from coembed_graph.reader import Reader, Strings
from coembed_graph.smiles import rdkit


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

    >>> encoder = Gin.tiny(EncoderSpec(name="demo/gin", modality="graph", dim=32, target="demo:Gin"))
    >>> encoder.encode(encoder.samples()).values.shape, encoder.layers
    (torch.Size([5, 1, 32]), 2)
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        dim: int | None = None,
        layers: int | None = None,
        dropout: float = 0.1,
        buckets: int = 8192,
        edge_types: int | Sequence[str] = 64,
        positions: str = "none",
        steps: int = 16,
        pooling: str = "mean",
        node: str | None = "text",
        edge: str | None = "type",
        numbers: int = 0,
        numeric: str = "x",
        strings: Strings = "path",
        most: int = 2048,
        seed: int | None = 0,
    ) -> None:
        if strings == "smiles":
            rdkit()  # an encoder that can read none of its items should not be built
        check_positions(positions, steps)
        reader = Reader(node, edge, numbers, numeric, strings, most)
        with seeded(seed):
            super().__init__(
                spec,
                reader=reader,
                dim=dim,
                layers=layers,
                buckets=buckets,
                edge_types=edge_types,
                positions=positions,
                steps=steps,
                pooling=pooling,
            )
            self.body.extend(GinBlock(self.dim, dropout) for _ in range(self.layers or 0))
