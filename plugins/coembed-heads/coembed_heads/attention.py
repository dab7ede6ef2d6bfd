"""`heads/attention`: learned queries attend to the tokens."""

from __future__ import annotations

import torch
from torch import nn

from coembed.aligner import Aligner
from coembed.embedding import Embedding
from coembed.nn import MultiHeadAttention
from coembed_heads.projection import projection

__all__ = ["AttentionPool"]


class AttentionPool(Aligner):
    """`queries` learned queries of `heads` heads attend to the tokens; the answers are joined to one vector.

    With `multi=True` they stay apart: `queries` vectors an item, for late interaction. Queries start near zero, where
    all tokens weigh alike. Raises ValueError unless `heads` divides `in_dim`.
    Source: Lee et al. 2019, Set Transformer, section 3.2 (pooling by multi-head attention), without its feed-forward
    half; several vectors: Humeau et al. 2020, Poly-encoders, section 4.4.

    >>> tokens = Embedding(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool))
    >>> AttentionPool(8, 4, queries=3, multi=True)(tokens).values.shape
    torch.Size([2, 3, 4])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        pool: str = "none",
        queries: int = 1,
        heads: int = 4,
        multi: bool = False,
    ) -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        if queries < 1:
            raise ValueError(f"attention pooling with {queries} queries: at least 1 is needed")
        self.multi = multi
        self.queries = nn.Parameter(0.02 * torch.randn(queries, in_dim))
        self.attention = MultiHeadAttention(in_dim, heads)
        self.map = projection(in_dim if multi else queries * in_dim, out_dim)

    def project(self, x: Embedding) -> Embedding:
        """`[B, T, in_dim]` to `[B, 1, out_dim]`, or `[B, queries, out_dim]`."""
        asked = self.queries.expand(len(x), -1, -1)
        values = self.attention(asked, x.values, visible=x.mask[:, None, None, :])  # [B, queries, in_dim]
        values = self.map(values if self.multi else values.flatten(1)[:, None])
        return Embedding(values, x.present[:, None].expand(values.shape[:2]))
