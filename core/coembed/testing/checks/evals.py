"""Checks on evals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from coembed.embedding import Embedding
from coembed.encoder import Batch
from coembed.sources import Records
from coembed.space import Space
from coembed.testing.subject import Inapplicable, Subject, check, hold
from coembed.testing.toy import ToyEncoder, toy_encoder

COUNT = 40


class _Constant(ToyEncoder):
    """Gives every item the same vector: it knows nothing."""

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Ones."""
        return Embedding(torch.ones(*batch["ids"].shape, self.dim), batch["mask"])


def _figures(subject: Subject, encoder: ToyEncoder) -> dict[str, float]:
    """What the eval gives on two towers of one encoder, over pairs of equal items."""
    items = [f"item {i}" for i in range(COUNT)]
    return _numbers(subject.tiny()(Space({"a": encoder, "b": encoder}), Records.pairs(a=items, b=items)))


def _numbers(found: Any, path: str = "") -> dict[str, float]:
    if isinstance(found, Mapping):
        return {k: v for name, part in found.items() for k, v in _numbers(part, f"{path}/{name}").items()}
    return {path: float(found)} if isinstance(found, (int, float)) else {}


@check("eval")
def gives_figures(subject: Subject) -> None:
    """A space and a source give numbers by name, none of them NaN, and the same ones again."""
    first = _figures(subject, toy_encoder())
    hold(first, "the eval gives no numbers: return {metric: value}, or {direction: {metric: value}}")
    broken = [name for name, value in first.items() if math.isnan(value)]
    hold(not broken, f"{', '.join(broken[:3])} is NaN: count what can't be ranked as a miss")
    again = _figures(subject, toy_encoder())
    other = [name for name in first if again.get(name) != first[name]]
    hold(not other, f"{', '.join(other[:3])} differs from one run to the next: draw from a seed")


@check("eval")
def constants_score_at_chance(subject: Subject) -> None:
    """A space that gives every item one vector scores no better than chance, and one that pairs equal items does."""
    constant, perfect = _figures(subject, _Constant(toy_encoder().spec)), _figures(subject, toy_encoder())
    stated = {name: perfect.get(_chance(name)) for name in perfect}
    stated = {name: chance for name, chance in stated.items() if chance is not None}
    if not stated:
        raise Inapplicable("states no chance to compare with: chance_NAME beside NAME")
    for name, chance in stated.items():
        assert chance is not None
        best, value = perfect[name], constant.get(name, math.nan)
        hold(best != chance, f"{name} is {best:.3f} where every item finds its equal, and that is chance")
        gain = (value - chance) / (best - chance)  # 1: as good as perfect; ranks are better when lower
        hold(
            gain <= 0.02,
            f"{name} is {value:.3f} for constant vectors, chance is {chance:.3f}: give tied items the middle of the "
            "ranks that they share",
        )


def _chance(name: str) -> str:
    place, _, metric = name.rpartition("/")
    return f"{place}/chance_{metric}"
