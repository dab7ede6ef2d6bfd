"""Starbucks: any objective at a fixed list of (layer, width) sizes, all in every step, taught by the full one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coembed.objectives.agreement import Form
from coembed.objectives.base import Objective
from coembed.objectives.layers import Layers, Term


class Starbucks(Layers):
    """The loss at the full size plus, for each smaller size of `sizes`, the loss there and `kl` times its KL.

    `sizes` are (layer, width) pairs, layers counted on the deepest tower that trains; the full size is trained whether
    it is listed or not, once. The KL is that of the small size's `scores` over the batch from the full ones, at
    `temperature`, or of its `features` from the full depth's first ones; the teacher is detached in both (the released
    code leaves it attached over features). Raises ValueError for sizes that repeat or are not positive, a layer that
    the encoders lack, or a width beyond theirs. Source: Wang et al. 2024, Starbucks, its representation learning (SRL).

    >>> loss = Starbucks("infonce", sizes=[(2, 4), (4, 8)])
    >>> loss.exits(6), loss.cuts(6, 16)
    ((2, 4, 6), ((2, 4), (4, 8), (6, 16)))
    """

    @classmethod
    def tiny(cls, folder: Path) -> Starbucks:
        """Two small sizes and the full one of the kit's vectors."""
        return cls("infonce", sizes=((1, 4), (2, 6), (2, 8)))

    def __init__(
        self,
        objective: str | Objective,
        sizes: Sequence[Sequence[int]],
        *,
        kl: float = 1.0,
        form: Form = "scores",
        temperature: float = 0.05,
    ) -> None:
        super().__init__(objective, kl=kl, form=form, temperature=temperature)
        pairs = [tuple(size) for size in sizes]
        if not pairs or any(len(p) != 2 or min(p) < 1 for p in pairs) or len(set(pairs)) < len(pairs):
            raise ValueError(f"starbucks sizes {pairs}: give each (layer, width) once, like [[2, 32], [4, 64]]")
        self.pairs = [(layer, dim) for layer, dim in pairs]
        self.asked = str(self.pairs)  # a run with other sizes is another run

    def exits(self, depth: int) -> tuple[int, ...]:
        """Every layer of a size, and the last."""
        deepest = max(layer for layer, _ in self.pairs)
        if deepest > depth:
            raise ValueError(f"starbucks sizes {self.pairs}: layer {deepest} of an encoder of {depth}")
        return tuple(sorted({depth, *(layer for layer, _ in self.pairs)}))

    def cuts(self, depth: int, dim: int) -> tuple[tuple[int, int], ...]:
        """The sizes, and the full one; of each the widths that the inner objective trains too."""
        self.exits(depth)
        own = {(layer, width) for layer, size in {*self.pairs, (depth, dim)} for width in (*self.objective.dims, size)}
        return tuple(sorted((layer, width) for layer, width in own if width <= dim))

    def terms(self, layers: tuple[int, ...], width: int) -> Sequence[Term]:
        """The smaller sizes, each once."""
        depth = len(layers) - 1
        places = [(layers.index(layer) if layers else 0, dim) for layer, dim in self.pairs]
        chosen = [size for size in dict.fromkeys(places) if size != (max(depth, 0), width)]
        return [Term(place, dim, 1.0, self.kl) for place, dim in chosen]
