"""AdaptiveLayers: any objective at several depths, so that an encoder can stop early."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from coembed.objectives.agreement import Form
from coembed.objectives.base import Objective
from coembed.objectives.layers import Layers, Term, widths


class AdaptiveLayers(Layers):
    """The loss at the full depth plus `weight` times the mean of the losses at shallower layers, at full width.

    `layers` is "sample" (one drawn each step), "all", or a list of layers, counted on the deepest tower that trains;
    `kl` times the distance of each from the full depth is added, over "scores" or "features". Around `matryoshka` it
    trains every width of every layer. Raises ValueError for layers that are not positive or that the encoders lack.

    >>> AdaptiveLayers("infonce", layers=[1, 3]).exits(4)
    (1, 3, 4)
    """

    @classmethod
    def tiny(cls, folder: Path) -> AdaptiveLayers:
        """All layers over InfoNCE."""
        return cls("infonce", layers="all")

    def __init__(
        self,
        objective: str | Objective,
        layers: Literal["sample", "all"] | Sequence[int] = "sample",
        *,
        weight: float = 1.0,
        kl: float = 0.0,
        form: Form = "scores",
        temperature: float = 0.05,
    ) -> None:
        super().__init__(objective, kl=kl, form=form, temperature=temperature)
        if isinstance(layers, str):
            known = layers in ("sample", "all")
        else:
            layers = tuple(sorted(set(layers)))
            known = bool(layers) and layers[0] >= 1
        if not known or weight < 0:
            raise ValueError(f"adaptive-layers {layers!r}, weight {weight}: use 'sample', 'all' or positive layers")
        self.chosen, self.weight = layers, float(weight)
        self.asked = str(layers)  # a run with other layers is another run

    def exits(self, depth: int) -> tuple[int, ...]:
        """The shallower layers of this step, and the last."""
        if self.chosen == "sample":
            return (depth,) if depth == 1 else (int(torch.randint(1, depth, ())), depth)
        return tuple(sorted({depth, *self._fixed(depth)}))

    def cuts(self, depth: int, dim: int) -> tuple[tuple[int, int], ...]:
        """The layers that can be drawn, at the inner objective's widths and the full one."""
        own = {depth, *self._fixed(depth)}
        return tuple((layer, width) for layer in sorted(own) for width in widths(self.objective, (), dim))

    def terms(self, layers: tuple[int, ...], width: int) -> Sequence[Term]:
        """The shallower layers, each with an equal part of the weight."""
        shallow = range(len(layers) - 1)
        return [Term(place, width, self.weight / len(shallow), self.kl / len(shallow)) for place in shallow]

    def _fixed(self, depth: int) -> Sequence[int]:
        if isinstance(self.chosen, str):
            return range(1, depth)
        if max(self.chosen) > depth:
            raise ValueError(f"adaptive-layers {list(self.chosen)}: layer {max(self.chosen)} of an encoder of {depth}")
        return self.chosen
