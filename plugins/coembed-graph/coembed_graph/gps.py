"""`graph/gps`: message passing and global attention side by side."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from coembed.nn import MultiHeadAttention, seeded
from coembed.spec import EncoderSpec
from coembed_graph.base import GraphEncoder
from coembed_graph.batch import dense
from coembed_graph.gin import gine
from coembed_graph.positions import check_positions
from coembed_graph.reader import Reader


class GpsBlock(nn.Module):
    """Messages along edges plus attention among all nodes of a graph, then feed-forward, each with a residual.

    Source: Rampášek et al. 2022, Recipe for a General, Powerful, Scalable Graph Transformer, eq. 3-6, with layer norm
    before each part instead of batch norm after it, so that a graph never sees its batch.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.ff_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.messages = gine(dim)
        self.attention = MultiHeadAttention(dim, heads, dropout)
        self.ff = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, edges: Tensor, kinds: Tensor, mask: Tensor) -> Tensor:
        """`x` [N, D], `edges` [2, E], `kinds` [E, D], `mask` [B, T] where the N nodes lie; returns [N, D]."""
        normed = self.norm(x)
        near = self.messages(normed, edges, kinds)
        far = self.attention(dense(normed, mask), visible=mask[:, None, None, :])[mask]
        x = x + self.dropout(near) + self.dropout(far)
        update: Tensor = self.dropout(self.ff(self.ff_norm(x)))
        return x + update


class Gps(GraphEncoder):
    """Encode graphs with GPS layers, trained from scratch: arguments as in `Gin`, and `heads` of attention.

    `positions` is "rwpe" unless told otherwise: attention alone would not know where a node lies.

    >>> encoder = Gps.tiny(EncoderSpec(name="demo/gps", modality="graph", dim=32, target="demo:Gps"))
    >>> encoder.encode(encoder.samples(), layer=1).values.shape
    torch.Size([5, 1, 32])
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        dim: int | None = None,
        layers: int | None = None,
        heads: int = 4,
        dropout: float = 0.1,
        buckets: int = 8192,
        edge_types: int | Sequence[str] = 64,
        positions: str = "rwpe",
        steps: int = 16,
        pooling: str = "mean",
        node: str | None = "text",
        edge: str | None = "type",
        numbers: int = 0,
        numeric: str = "x",
        most: int = 2048,
        seed: int | None = 0,
    ) -> None:
        check_positions(positions, steps)
        reader = Reader(node, edge, numbers, numeric, most=most)
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
            self.body.extend(GpsBlock(self.dim, heads, dropout) for _ in range(self.layers or 0))
