"""Matryoshka: any objective at several widths at once, so that vectors can be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from coembed.embedding import Embedding
from coembed.objectives.base import Objective
from coembed.objectives.wrapper import Wrapper


class Matryoshka(Wrapper):
    """The sum of an objective's losses over the first dimensions of the vectors, cut and brought to unit length.

    `objective` is a name or an object; `dims` the widths, the full one included if it shall be trained as well;
    `weights` one factor a width (all 1 by default). Extra negatives are cut too. At the full width the vectors pass as
    they are. Learnable scalars are shared by all widths. Raises ValueError for widths that repeat, are not positive or
    exceed the vectors', and for weights that do not fit. Source: Kusupati et al. 2022, equation 1.

    >>> import torch
    >>> loss = Matryoshka("infonce", dims=(4, 2))
    >>> x = Embedding.from_vectors(torch.eye(4))
    >>> loss.dims, bool(loss(x, x) > loss.objective(x, x))
    ((4, 2), True)
    """

    @classmethod
    def tiny(cls, folder: Path) -> Matryoshka:
        """Two widths over InfoNCE."""
        return cls("infonce", dims=(4, 8))

    def __init__(self, objective: str | Objective, dims: Sequence[int], weights: Sequence[float] | None = None) -> None:
        super().__init__(objective)
        self.dims = tuple(dims)
        if not self.dims or min(self.dims) < 1 or len(set(self.dims)) < len(self.dims):
            raise ValueError(f"matryoshka dims {self.dims}: give each positive width once")
        self.weights = (1.0,) * len(self.dims) if weights is None else tuple(float(weight) for weight in weights)
        if len(self.weights) != len(self.dims) or min(self.weights) < 0:
            raise ValueError(f"matryoshka weights {self.weights}: give one non-negative factor for each of {self.dims}")

    def cuts(self, depth: int, dim: int) -> tuple[tuple[int, int], ...]:
        """The inner objective's layers at each of the widths."""
        layers = dict.fromkeys(layer for layer, _ in self.objective.cuts(depth, dim))
        return tuple((layer, width) for layer in layers for width in self.dims)

    def forward(
        self,
        a: Embedding,
        b: Embedding,
        *,
        weights: Tensor | None = None,
        keys: Tensor | None = None,
        mask: Tensor | None = None,
        negatives: Embedding | None = None,
    ) -> Tensor:
        """The weighted sum over widths, a scalar; arguments as in `Objective.forward`."""
        if max(self.dims) > a.dim:
            raise ValueError(f"matryoshka dims {self.dims} do not fit vectors of width {a.dim}")
        losses = []
        for dim, factor in zip(self.dims, self.weights, strict=True):
            x, y, extra = cut(a, dim), cut(b, dim), None if negatives is None else cut(negatives, dim)
            loss: Tensor = self.objective(x, y, weights=weights, keys=keys, mask=mask, negatives=extra)
            losses.append(factor * loss)
        return sum(losses[1:], start=losses[0])


def cut(x: Embedding, dim: int) -> Embedding:
    """The first `dim` dimensions at unit length, whatever was declared; as it is where that is all."""
    if dim == x.dim:
        return x
    # Hidden positions may hold NaN, which normalising would carry into their gradients.
    return replace(x, values=x.values.masked_fill(~x.mask[..., None], 0)).truncate(dim, force=True)
