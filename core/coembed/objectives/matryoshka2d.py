"""Matryoshka2D: any objective at a drawn depth and a drawn width, so that one model serves every (layer, width)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch

from coembed.objectives.agreement import Form
from coembed.objectives.base import Objective
from coembed.objectives.layers import Layers, Term, widths

Variant = Literal["v1", "v2", "ese"]


class Matryoshka2D(Layers):
    """2-D Matryoshka in its three published readings, by name.

    "v1": each step draws a layer n of 1..N-1 and a width d of `dims`; the loss is the sum at (N, full), (N, d),
    (n, full) and (n, d), plus `kl` times the distance of layer n from layer N. "v2": the same with the terms of layer n
    divided by n and the KL multiplied by log(2 + n). "ese": every layer n at full width and cut to every width of
    `dims`, both over 1 + ln n (the last layer whole), plus `kl` times the KL of the cut scores from those of the same
    layer in its first d principal directions.

    `dims` are widths below the full one (None: the multiples of 8; "ese": 128 where that is smaller, else a half).
    `form` is the KL over "features", as first released, or over "scores"; both take vectors at unit length, and the
    teacher is detached, which the first release left out. Raises ValueError for an unknown variant, or a width that is
    not positive. Source: Li et al. 2024, 2D Matryoshka Sentence Embeddings ("v1": the code as released on 23 February
    2024; "v2": of 29 February), which became ESE, ICLR 2025 ("ese": reconstructed; there the principal part is taken of
    features and compared as features).

    >>> loss = Matryoshka2D("infonce", dims=(4, 2))
    >>> loss.exits(1), len(loss.exits(6)), loss.cuts(2, 8)
    ((1,), 2, ((1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (2, 8)))
    """

    @classmethod
    def tiny(cls, folder: Path) -> Matryoshka2D:
        """One width, so that nothing is left to draw on vectors of one depth."""
        return cls("infonce", dims=(4,))

    def __init__(
        self,
        objective: str | Objective,
        dims: Sequence[int] | None = None,
        *,
        variant: Variant = "v1",
        kl: float = 1.0,
        form: Form = "features",
        temperature: float = 1.0,
    ) -> None:
        super().__init__(objective, kl=kl, form=form, temperature=temperature)
        if variant not in get_args(Variant):
            raise ValueError(f"matryoshka2d variant {variant!r}: use one of {', '.join(get_args(Variant))}")
        self.variant = variant
        self.prefixes = None if dims is None else tuple(dims)
        if self.prefixes is not None and (not self.prefixes or min(self.prefixes) < 1):
            raise ValueError(f"matryoshka2d dims {self.prefixes}: give positive widths, or None for multiples of 8")
        self.asked = str(self.prefixes)  # a run with other widths is another run

    def exits(self, depth: int) -> tuple[int, ...]:
        """One layer drawn below the last, and the last; "ese": all."""
        if self.variant == "ese":
            return tuple(range(1, depth + 1))
        return (depth,) if depth == 1 else (int(torch.randint(1, depth, ())), depth)

    def cuts(self, depth: int, dim: int) -> tuple[tuple[int, int], ...]:
        """Every layer at every width."""
        dims = widths(self.objective, self._below(dim), dim)
        return tuple((layer, width) for layer in range(1, depth + 1) for width in dims)

    def terms(self, layers: tuple[int, ...], width: int) -> Sequence[Term]:
        """The sizes of this step beside the full one; a width is drawn here."""
        below = self._below(width)
        if self.variant == "ese":
            return self._all(layers, width, below)
        drawn = below[int(torch.randint(len(below), ()))] if below else width
        found = [Term(-1, drawn)] if below else []
        if len(layers) > 1:
            n = layers[0]
            share, kl = (1 / n, self.kl * math.log(2 + n)) if self.variant == "v2" else (1.0, self.kl)
            found += [Term(0, width, share, kl), *([Term(0, drawn, share)] if below else [])]
        return found

    def _all(self, layers: tuple[int, ...], width: int, below: tuple[int, ...]) -> list[Term]:
        found = []
        for place, n in enumerate(layers or (1,)):
            last = place == len(layers or (1,)) - 1
            share = 1.0 if last else 1 / (1 + math.log(n))
            found += [] if last else [Term(place, width, share)]
            found += [Term(place, dim, share, share * self.kl, compress=True) for dim in below]
        return found

    def _below(self, width: int) -> tuple[int, ...]:
        if self.prefixes is not None:
            if max(self.prefixes) > width:
                raise ValueError(f"matryoshka2d dims {self.prefixes} do not fit vectors of width {width}")
            return tuple(dim for dim in self.prefixes if dim < width)
        if self.variant == "ese":
            return (min(128, width // 2),) if width > 1 else ()
        return tuple(range(8, width, 8))
