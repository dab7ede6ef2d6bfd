"""Which rows of a batch this process answers for, where several processes share one loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

Reduce = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Share:
    """This process is `rank` of `world`; `total` and `maximum` reduce a tensor over all of them, in place.

    Every process holds the vectors of the whole batch and computes the losses of its own rows: the values that the
    processes return add up to the loss of the batch, and so do their gradients.

    >>> [Share(rank, 3).part(7) for rank in range(3)]
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """

    rank: int = 0
    world: int = 1
    total: Reduce = lambda tensor: tensor
    maximum: Reduce = lambda tensor: tensor

    def part(self, size: int) -> slice:
        """The rows of `size` that are this process's: contiguous, as equal as can be, the first ones longer."""
        each, rest = divmod(size, self.world)
        start = self.rank * each + min(self.rank, rest)
        return slice(start, start + each + (self.rank < rest))


ALONE = Share()
_current: ContextVar[Share] = ContextVar("share", default=ALONE)


def current() -> Share:
    """The share in force; `ALONE` outside of `shared`."""
    return _current.get()


@contextmanager
def shared(share: Share) -> Iterator[None]:
    """Losses computed inside are this share's. A backward pass runs in other threads: a function that needs the share
    there keeps it from its forward pass.
    """
    token = _current.set(share)
    try:
        yield
    finally:
        _current.reset(token)
