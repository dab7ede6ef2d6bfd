"""`graph/gps`: message passing and global attention side by side."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from coembed.nn import MultiHeadAttention
from coembed.spec import EncoderSpec
from coembed_graph.base import GraphEncoder
from coembed_graph.batch import dense
from coembed_graph.gin import gine


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
        self.heads = heads  # the blocks are made below
        super().__init__(
            spec,
            dim=dim,
            layers=layers,
            dropout=dropout,
            buckets=buckets,
            edge_types=edge_types,
            positions=positions,
            steps=steps,
            pooling=pooling,
            node=node,
            edge=edge,
            numbers=numbers,
            numeric=numeric,
            most=most,
            seed=seed,
        )

    def block(self, dropout: float) -> GpsBlock:
        """Messages beside attention of `heads`."""
        return GpsBlock(self.dim, self.heads, dropout)
