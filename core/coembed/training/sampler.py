"""Which records make step s: a pure function of the seed and the step, so a run resumes anywhere, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from coembed.nn.seeding import counter
from coembed.training.batches import Batches, Epoch, Mixed


def proportions(sizes: Sequence[int], weights: Sequence[float], temperature: float) -> list[float]:
    """Shares of tasks: each one's weight times its size to the power of 1 / temperature; they need not add up to 1.

    `sizes` are in batches, the unit that steps are made of, so that at 1 every record is drawn equally often, whatever
    the size of its set; towards infinity every task is. In between, the records of a set with k times fewer batches
    are drawn k^(1 - 1/temperature) times as often: at 2, a set of a hundredth of the batches gets a tenth of the steps
    and sees its records ten times as often. That neither drowns nor overdraws it, so 2 is the value to begin with.
    Raises ValueError for a temperature that is not positive. Source: Arivazhagan et al. 2019, section 4.2.

    >>> proportions([100, 4], [1.0, 1.0], 2.0)
    [10.0, 2.0]
    """
    if not temperature > 0:
        raise ValueError(f"mixing {temperature} must be positive: 1 in proportion to size, more for equal shares")
    return [weight * float(size) ** (1 / temperature) for size, weight in zip(sizes, weights, strict=True)]


class Schedule:
    """Batches of several tasks over many steps, without a state of its own.

    Task i has `sizes[i]` records and gets `shares[i]` of the steps, spread evenly. Each task goes through its records
    in an order of its own each epoch, `batch_size` at a time, put together as its `ways[i]` says (default: `Mixed`);
    what does not fill a batch is left for another epoch's order, and a task smaller than the batch gives all it has.
    Raises ValueError if a task has no records.

    >>> schedule = Schedule([5, 2], [1.0, 1.0], batch_size=2, steps=4, seed=0)
    >>> [task for task, _ in map(schedule.batch, range(4))]
    [0, 1, 0, 1]
    """

    def __init__(
        self,
        sizes: Sequence[int],
        shares: Sequence[float],
        *,
        batch_size: int,
        steps: int,
        seed: int,
        ways: Sequence[Batches] | None = None,
    ) -> None:
        for task, size in enumerate(sizes):
            if size < 1:
                raise ValueError(f"task {task} has no usable record")
        self.sizes, self.batch_size, self.seed = list(sizes), batch_size, seed
        self.ways = [Mixed() for _ in sizes] if ways is None else list(ways)
        self.per_epoch = [way.count(size, batch_size) for way, size in zip(self.ways, self.sizes, strict=True)]
        self._turns = _turns(shares, steps)
        self._epochs: dict[int, tuple[int, Epoch]] = {}

    def batch(self, step: int) -> tuple[int, list[int]]:
        """The task of a step and the positions of its records."""
        task, count = self._turns[step]
        epoch, place = divmod(count, self.per_epoch[task])
        return task, self._epoch(task, epoch).batches[place].tolist()

    def hard(self, step: int) -> Tensor | None:
        """The hard negatives `[B, k]` that come with the batch of a step, if its way of making batches has any."""
        task, count = self._turns[step]
        epoch, place = divmod(count, self.per_epoch[task])
        found = self._epoch(task, epoch).hard
        return found[place] if found is not None else None

    def _epoch(self, task: int, epoch: int) -> Epoch:
        cached = self._epochs.get(task)
        if cached is None or cached[0] != epoch:
            # Philox is counter-based and specified: the order is the same on every machine.
            random = np.random.Generator(np.random.Philox(key=counter(self.seed, "order", task, epoch)))
            cached = (epoch, self.ways[task].epoch(self.sizes[task], self.batch_size, random))
            self._epochs[task] = cached
        return cached[1]


def _turns(shares: Sequence[float], steps: int) -> list[tuple[int, int]]:
    """Whose turn each step is, and its how-manieth: the task that is furthest behind its share goes next."""
    total, counts, turns = sum(shares), [0] * len(shares), []
    for step in range(steps):
        behind = [share / total * (step + 1) - count for share, count in zip(shares, counts, strict=True)]
        task = max(range(len(shares)), key=behind.__getitem__)
        turns.append((task, counts[task]))
        counts[task] += 1
    return turns
