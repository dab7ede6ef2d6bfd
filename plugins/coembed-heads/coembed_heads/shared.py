"""`heads/shared`: a map of the tower's own, then one that several towers have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from coembed.aligner import Aligner
from coembed.embedding import Embedding
from coembed_heads.projection import projection

__all__ = ["Shared"]


class Shared(Aligner):
    """`entry`, from the tower's width to `hidden`, then `common`, which all towers of one `group` in a space share.

    In a space the towers' `common` is one module: one set of parameters, which the gradients of all towers move. A
    saved space holds it with each tower, equal, and sharing starts again where it is loaded. Where a tower joins whose
    group is there already, it takes over the weights of those there. `common` is linear, or with `layers` above 1 has
    GELU between its maps. Raises ValueError if heads of one group differ in their widths or layers.

    >>> import coembed
    >>> from coembed.testing import toy_encoder
    >>> encoders = {"a": toy_encoder(dim=8), "b": toy_encoder(dim=6)}
    >>> space = coembed.Space({name: coembed.Tower(e, "heads/shared", dim=4) for name, e in encoders.items()})
    >>> space["a"].aligner.common is space["b"].aligner.common
    True
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        pool: str = "native",
        hidden: int | None = None,
        layers: int = 1,
        group: str = "shared",
    ) -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        width = out_dim if hidden is None else hidden
        if width < 1 or layers < 1:
            raise ValueError(f"a shared head of hidden={width}, layers={layers}: both must be at least 1")
        self.group = group
        self.entry = projection(in_dim, width)
        parts: list[nn.Module] = []
        for _ in range(layers - 1):
            parts += [nn.Linear(width, width), nn.GELU()]
        last = nn.Linear(width, out_dim)
        (nn.init.eye_ if width == out_dim else nn.init.orthogonal_)(last.weight)
        nn.init.zeros_(last.bias)
        self.common = nn.Sequential(*parts, last)

    def join(self, others: Sequence[Aligner]) -> None:
        """Share `common` with the first head of the same group; raises ValueError if their shapes differ."""
        for other in others:
            if isinstance(other, Shared) and other.group == self.group:
                self._share(other)
                return

    def _share(self, other: Shared) -> None:
        own, theirs = ([tuple(p.shape) for p in head.common.parameters()] for head in (self, other))
        if own != theirs:
            raise ValueError(
                f"heads/shared of group {self.group!r} differ: {own} and {theirs}; give them equal hidden=, layers= "
                "and width, or groups of their own"
            )
        self.common = other.common

    def project(self, x: Embedding) -> Embedding:
        """`[B, T, in_dim]` to `[B, T, out_dim]`."""
        values: torch.Tensor = self.common(self.entry(x.values))
        return Embedding(values, x.mask)
