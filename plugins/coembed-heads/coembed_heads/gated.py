"""`heads/gated` and `heads/gated-pool`: gates over a map and over two poolings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed.aligner import Aligner
from coembed.embedding import Embedding
from coembed.nn import POOLINGS
from coembed_heads.projection import projection

__all__ = ["Gated", "GatedPool"]


class Gated(Aligner):
    """A linear map plus a gated one, down(value · GELU(gate)), of every vector; `hidden` is the gate's width.

    The gated part starts at zero, so that the head starts as the linear map does. `norm` puts a LayerNorm in front of
    it. Raises ValueError for a `hidden` below 1. Source: Shazeer 2020, GLU Variants Improve Transformer, equation 6.

    >>> Gated(8, 4)(Embedding.from_vectors(torch.ones(2, 8))).values.shape
    torch.Size([2, 1, 4])
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, pool: str = "native", hidden: int | None = None, norm: bool = True
    ) -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        width = 2 * max(in_dim, out_dim) if hidden is None else hidden
        if width < 1:
            raise ValueError(f"a gated head of hidden={width}: at least 1 is needed")
        self.norm = nn.LayerNorm(in_dim) if norm else nn.Identity()
        self.up = nn.Linear(in_dim, 2 * width)
        self.down = nn.Linear(width, out_dim)
        self.map = projection(in_dim, out_dim)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def project(self, x: Embedding) -> Embedding:
        """`[B, T, in_dim]` to `[B, T, out_dim]`."""
        value, gate = self.up(self.norm(x.values)).chunk(2, -1)
        return Embedding(self.map(x.values) + self.down(value * F.gelu(gate)), x.mask)


class GatedPool(Aligner):
    """g · one + (1 - g) · other, two poolings of the same tokens under a gate g = sigmoid(W [one; other]).

    `one` and `other` are names in `coembed.nn.POOLINGS` without weights of their own. The gate starts at one half
    everywhere and decides number by number, or with `scalar=True` once an item. Raises ValueError for another name.
    Source: the gate of Srivastava et al. 2015, Highway Networks, equation 3, over poolings.

    >>> tokens = Embedding(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool))
    >>> GatedPool(8, 4)(tokens).values.shape
    torch.Size([2, 1, 4])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        pool: str = "none",
        one: str = "mean",
        other: str = "max",
        scalar: bool = False,
    ) -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        known = [name for name in POOLINGS if name != "attention"]
        for name in (one, other):
            if name not in known:
                raise ValueError(f"a gate over the pooling {name!r}: choose from {', '.join(known)}")
        self.one, self.other = POOLINGS[one](in_dim), POOLINGS[other](in_dim)
        self.gate = nn.Linear(2 * in_dim, 1 if scalar else in_dim)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.map = projection(in_dim, out_dim)

    def gates(self, x: Embedding) -> Tensor:
        """The share of `one`, `[B, in_dim]` (or `[B, 1]`), between 0 and 1."""
        both = torch.cat([self.one(x).vectors, self.other(x).vectors], -1)
        gates: Tensor = torch.sigmoid(self.gate(both))
        return gates

    def project(self, x: Embedding) -> Embedding:
        """`[B, T, in_dim]` to `[B, 1, out_dim]`."""
        values = torch.lerp(self.other(x).vectors, self.one(x).vectors, self.gates(x).expand(len(x), x.dim))
        return Embedding(self.map(values[:, None]), x.present[:, None])
