"""Ramp: a number that changes in the course of training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coembed.arguments import call

SHAPES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Ramp:
    """From `start` to `end` over the share `until` of a stage's steps, then as it is; called with the share so far.

    `shape` is "cosine" (flat at both ends), "linear", or "constant" (`start` all along). Raises ValueError for another
    shape, an `until` outside of 0..1 and numbers that are not finite.

    >>> ramp = Ramp(0.0, 2.0, "linear", until=0.5)
    >>> ramp(0.0), ramp(0.25), ramp(1.0)
    (0.0, 1.0, 2.0)
    """

    start: float
    end: float
    shape: str = "cosine"
    until: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"shape {self.shape!r} of a ramp: use one of {', '.join(SHAPES)}")
        if not 0 < self.until <= 1:
            raise ValueError(f"until {self.until} of a ramp must lie above 0 and up to 1, a share of the steps")
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ValueError(f"a ramp from {self.start} to {self.end}: both must be finite")

    def __call__(self, share: float) -> float:
        """The value once that share of the steps is done."""
        if self.shape == "constant":
            return self.start
        place = min(1.0, share / self.until)
        done = place if self.shape == "linear" else (1 - math.cos(math.pi * place)) / 2
        return self.start + (self.end - self.start) * done

    @classmethod
    def given(cls, value: float | Ramp | Mapping[str, Any]) -> Ramp | float:
        """A ramp as it may be written: itself, its arguments by name, or a plain number.

        >>> Ramp.given({"start": 0.1, "end": 0.02})
        Ramp(start=0.1, end=0.02, shape='cosine', until=1.0)
        """
        ramp: Ramp | float = call("ramp", cls, value) if isinstance(value, Mapping) else value
        return ramp
