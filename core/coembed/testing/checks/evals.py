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
from coembed.testing.cases import Inapplicable, Subject, check
from coembed.testing.toy import ToyEncoder, toy_encoder

COUNT = 40


class _Constant(ToyEncoder):
    """Gives every item the same vector: it knows nothing."""

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Ones."""
        return Embedding(torch.ones(*batch["ids"].shape, self.dim), batch["mask"])


def _numbers(found: Any, path: str = "") -> dict[str, float]:
    if isinstance(found, Mapping):
        return {k: v for name, part in found.items() for k, v in _numbers(part, f"{path}/{name}").items()}
    return {path: float(found)} if isinstance(found, (int, float)) else {}


@check("eval")
def constants_score_at_chance(subject: Subject) -> None:
    """A space that gives every item one vector scores at chance: ties must not look like hits."""
    spec = toy_encoder().spec
    space = Space({"a": _Constant(spec), "b": _Constant(spec)})
    source = Records.pairs(a=[f"left {i}" for i in range(COUNT)], b=[f"right {i}" for i in range(COUNT)])
    figures = _numbers(subject.tiny()(space, source))
    assert figures, "the eval gives no numbers"
    for name, value in figures.items():
        assert not math.isnan(value), f"{name} is NaN"
        metric, _, _ = name.rpartition("/")
        chance = figures.get(f"{metric}/chance_{name.rpartition('/')[2]}")
        if chance is not None:
            assert value <= chance + 0.05, f"{name} is {value:.3f} for constant vectors, chance is {chance:.3f}"
    if not any("/chance_" in name for name in figures):
        raise Inapplicable("states no chance to compare with")
