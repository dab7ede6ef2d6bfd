"""Where a run stands: what a loss may ask that changes in the course of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """Before which step a run is: `step` counts the steps done, `share` runs over a stage from 0 (first step) to 1.

    A step is taken inside `at`, so that objectives, aligners and tasks see the same moment when a run is resumed: it is
    a function of the step and no state of theirs. A backward pass runs in other threads: ask in the forward pass.

    >>> Moment.of(3, 7).share, current().share
    (0.5, 0.0)
    """

    step: int = 0
    share: float = 0.0

    @classmethod
    def of(cls, step: int, total: int, before: int = 0) -> Moment:
        """Step `step` of a stage of `total` steps, which began after `before` others."""
        return cls(before + step, step / max(1, total - 1))


_current: ContextVar[Moment] = ContextVar("moment", default=Moment())  # noqa: B039  frozen


def current() -> Moment:
    """The moment of the step that is being taken; the beginning, outside of training."""
    return _current.get()


@contextmanager
def at(moment: Moment) -> Iterator[None]:
    """Within this block that is the moment."""
    token = _current.set(moment)
    try:
        yield
    finally:
        _current.reset(token)
