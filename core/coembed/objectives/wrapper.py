"""Wrapper: an objective that calls another."""

from __future__ import annotations

from coembed.objectives.base import Objective
from coembed.plugins import build


class Wrapper(Objective):
    """An objective around another, which it calls with changed arguments as often as it needs; nothing is patched.

    `objective` is a registered name or an object, another wrapper included. An author writes `forward`; the inner
    objective's parameters and `dims` are the wrapper's.
    """

    def __init__(self, objective: str | Objective) -> None:
        super().__init__()
        self.objective: Objective = build("objective", objective)
        self.dims = self.objective.dims
        self.symmetric, self.additive = self.objective.symmetric, self.objective.additive
        self.shares = self.objective.shares  # true of any linear combination of the inner losses; else say False
        self.layered = self.objective.layered

    def exits(self, depth: int) -> tuple[int, ...]:
        """The inner objective's."""
        return self.objective.exits(depth)

    def cuts(self, depth: int, dim: int) -> tuple[tuple[int, int], ...]:
        """The inner objective's."""
        return self.objective.cuts(depth, dim)
