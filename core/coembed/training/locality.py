"""Locality: batches that walk from record to record over shared hard negatives."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coembed.training.batches import Batches, Epoch
from coembed.training.columns import Columns
from coembed.training.mining import Mined, Miner, negatives_given
from coembed.training.neighbours import Neighbours


class Locality(Batches):
    """Neighbouring records in one batch, so that in-batch negatives are hard, and one hard negative for each.

    From a random record on: it joins the batch and draws a negative among its neighbours of the ranks `draw`; all
    records that have that negative at the ranks `push` are waiting from then on. `mode` "walk" takes the newest of
    those that wait next, "snow" the oldest; where none waits, the next is random. Each record comes once an epoch.
    `given` are the neighbours: mined ones, a file of them, or a miner, which looks at a stage's start (by default one
    without a threshold that finds as many as `push` needs). Differs from the published code in one thing: who waits
    already is not put up again. Raises ValueError for another mode or ranks that do not fit.
    Source: Xiao et al. 2022, Progressively Optimized Bi-Granular Document Representation, section 3.3 and its code.
    """

    def __init__(
        self,
        given: Mined | Miner | str | Path | Mapping[str, Any] | None = None,
        *,
        draw: Sequence[int] = (0, 200),
        push: Sequence[int] = (200, 400),
        mode: str = "snow",
    ) -> None:
        super().__init__()
        if mode not in ("snow", "walk"):
            raise ValueError(f"locality mode {mode!r}: use 'snow' (the oldest first) or 'walk' (the newest first)")
        for name, ranks in (("draw", draw), ("push", push)):
            if len(ranks) != 2 or not 0 <= ranks[0] < ranks[1]:
                raise ValueError(f"locality {name} {list(ranks)}: two ranks from 0 are expected, such as [0, 200]")
        self.mode, self.draw, self.push = mode, (draw[0], draw[1]), (push[0], push[1])
        self.given = negatives_given(given if given is not None else Miner(k=max(draw[1], push[1]), ratio=None))

    def between(self, query: str, target: str) -> None:
        """Say which towers neighbours are mined in; called by the contrast that it is part of."""
        self.neighbours = Neighbours(self.given, query, target)

    def attach(self, columns: Columns) -> None:
        """Look up, or make room for, the neighbours."""
        if self.neighbours is not None:
            self.neighbours.attach(columns)

    def count(self, size: int, batch_size: int) -> int:
        """Full batches; one where there is none."""
        return max(1, size // batch_size)

    def epoch(self, size: int, batch_size: int, random: np.random.Generator) -> Epoch:
        """The walk, cut."""
        assert self.neighbours is not None
        table = self.neighbours.table.cpu().numpy()
        order, drawn = walk(table, self.draw, self.push, self.mode, random)
        parts = [order[i * batch_size : (i + 1) * batch_size] for i in range(self.count(size, batch_size))]
        return Epoch(parts, [torch.from_numpy(drawn[part])[:, None] for part in parts])

    def describe(self) -> dict[str, Any]:
        """With the ranks and the neighbours."""
        own = self.neighbours.describe() if self.neighbours is not None else {}
        return {**super().describe(), "mode": self.mode, "draw": list(self.draw), "push": list(self.push), "of": own}


def walk(
    table: np.ndarray, draw: tuple[int, int], push: tuple[int, int], mode: str, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """All records of `table` `[N, k]` (neighbours by rank, -1: none) in the order of a walk, and each one's negative.

    >>> table = np.array([[4, 5], [5, 4], [6, 7], [7, 6]])  # records 0 and 1 are neighbours, and 2 and 3
    >>> order, drawn = walk(table, (0, 1), (1, 2), "snow", np.random.default_rng(0))
    >>> sorted(map(set, order.reshape(2, 2).tolist()), key=min), drawn.tolist()
    ([{0, 1}, {2, 3}], [4, 5, 6, 7])
    """
    size = len(table)
    pushed = table[:, push[0] : push[1]]
    where = np.argsort(pushed, axis=None, kind="stable")  # who has a negative at those ranks, by negative
    names, who = pushed.reshape(-1)[where], where // max(1, pushed.shape[1])
    waits = np.zeros(size, bool)  # or has had its turn
    waiting: deque[int] = deque()
    order: list[int] = []
    drawn = np.full(size, -1, np.int64)
    for start in random.permutation(size).tolist():
        if waits[start]:
            continue
        waits[start] = True
        waiting.append(start)
        while waiting:
            record = waiting.popleft() if mode == "snow" else waiting.pop()
            order.append(record)
            near = table[record, draw[0] : draw[1]]
            near = near[near >= 0]
            if not len(near):
                continue
            drawn[record] = chosen = near[random.integers(len(near))]
            left, right = np.searchsorted(names, (chosen, chosen + 1))
            fresh = random.permutation(np.unique(who[left:right]))
            fresh = fresh[~waits[fresh]]
            waits[fresh] = True
            waiting.extend(fresh.tolist())
    return np.array(order, np.int64), drawn
