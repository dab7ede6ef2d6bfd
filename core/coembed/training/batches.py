"""Batches: how the records of a task are put together, as a function of the seed and the epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from coembed.arguments import call

if TYPE_CHECKING:
    from coembed.sources import Record
    from coembed.training.columns import Columns
    from coembed.training.neighbours import Neighbours


@dataclass(frozen=True, eq=False)
class Epoch:
    """The batches of an epoch as positions; `hard` are the hard negatives `[B, k]` that come with each, if any do."""

    batches: Sequence[np.ndarray]
    hard: Sequence[torch.Tensor] | None = None


class Batches(nn.Module, ABC):
    """A way to make batches. No record comes twice in an epoch; what does not fill a batch waits for another epoch.

    An author writes `count` and `epoch`, and `attach` to look at the records.
    """

    def __init__(self) -> None:
        super().__init__()
        self.neighbours: Neighbours | None = None  # what it looks up, if anything: a run keeps it in its checkpoints

    def attach(self, columns: Columns) -> None:
        """Look at the records, once they are read."""

    @abstractmethod
    def count(self, size: int, batch_size: int) -> int:
        """How many batches an epoch over `size` records has."""

    @abstractmethod
    def epoch(self, size: int, batch_size: int, random: np.random.Generator) -> Epoch:
        """The batches of an epoch; all randomness is `random`'s."""

    def describe(self) -> dict[str, Any]:
        """What tells a changed run from the same one, plain JSON types."""
        return {"batches": type(self).__name__}


class Mixed(Batches):
    """Any records together, in an order drawn anew each epoch; a set smaller than a batch gives all it has.

    >>> epoch = Mixed().epoch(5, 2, np.random.default_rng(0))
    >>> len(epoch.batches), len({int(i) for batch in epoch.batches for i in batch})
    (2, 4)
    """

    def count(self, size: int, batch_size: int) -> int:
        """Full batches; one where there is none."""
        return max(1, size // batch_size)

    def epoch(self, size: int, batch_size: int, random: np.random.Generator) -> Epoch:
        """A permutation, cut."""
        order = random.permutation(size)
        return Epoch([order[i * batch_size : (i + 1) * batch_size] for i in range(self.count(size, batch_size))])


class Homogeneous(Batches):
    """Only records that are alike in one batch: of one "label", one "group", or one value of a key of `extra`.

    In-batch negatives are then those of the same topic or data set. A kind with fewer records than a batch gives all it
    has; kinds of a single record, which would have no negatives, make batches together. Raises ValueError if every
    record is a kind of its own.

    >>> from coembed.training.columns import Columns
    >>> from coembed.sources import Record
    >>> records = [Record({"a": i}, id=str(i), label=str(i % 2)) for i in range(8)]
    >>> alike = Homogeneous("label")
    >>> alike.attach(Columns(records))
    >>> sorted(sorted(batch.tolist()) for batch in alike.epoch(8, 4, np.random.default_rng(0)).batches)
    [[0, 2, 4, 6], [1, 3, 5, 7]]
    """

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by
        self._kinds: list[np.ndarray] = []

    def attach(self, columns: Columns) -> None:
        """Sort the records by kind."""
        kinds: dict[Any, list[int]] = {}
        for i, record in enumerate(columns.records[: columns.drawn]):
            kinds.setdefault(self._kind(record), []).append(i)
        if len(kinds) == columns.drawn > 1:
            raise ValueError(f"homogeneous batches by {self.by!r}: all {len(kinds)} records differ in it")
        single = [rows[0] for rows in kinds.values() if len(rows) == 1]
        together = [rows for rows in kinds.values() if len(rows) > 1] + ([single] if single else [])
        self._kinds = [np.array(rows, np.int64) for rows in together]

    def _kind(self, record: Record) -> Any:
        return getattr(record, self.by) if self.by in ("label", "group") else record.extra.get(self.by)

    def count(self, size: int, batch_size: int) -> int:
        """Full batches of every kind; one of a kind that has none."""
        return sum(max(1, len(rows) // batch_size) for rows in self._kinds)

    def epoch(self, size: int, batch_size: int, random: np.random.Generator) -> Epoch:
        """Every kind's own permutation, cut; the batches in any order."""
        found = []
        for rows in self._kinds:
            order = random.permutation(rows)
            found += [order[i * batch_size : (i + 1) * batch_size] for i in range(max(1, len(rows) // batch_size))]
        return Epoch([found[i] for i in random.permutation(len(found))])

    def describe(self) -> dict[str, Any]:
        """With what it sorts by."""
        return {**super().describe(), "by": self.by}


def given(batches: str | Mapping[str, Any] | Batches) -> Batches:
    """Batches as they may be written: an object, "mixed", or the arguments of one by name.

    {"homogeneous": "label"} and {"locality": {"draw": [0, 50], …}} name one kind each. Raises ValueError for another.

    >>> given({"homogeneous": "label"}).by
    'label'
    """
    from coembed.training.locality import Locality

    kinds: dict[str, Callable[..., Batches]] = {"mixed": Mixed, "homogeneous": Homogeneous, "locality": Locality}
    if isinstance(batches, Batches):
        return batches
    if isinstance(batches, Mapping):
        if len(batches) != 1 or next(iter(batches)) not in kinds:
            raise ValueError(
                f"batches {dict(batches)}: give one of {', '.join(kinds)}, such as {{'homogeneous': 'label'}}"
            )
        name, options = next(iter(batches.items()))
        if name == "homogeneous" and isinstance(options, str):
            options = {"by": options}
        return _made(name, kinds[name], options or {})
    if batches not in kinds:
        raise ValueError(f"batches {batches!r}: use {', '.join(kinds)}")
    return _made(batches, kinds[batches], {})


def _made(name: str, kind: Callable[..., Batches], options: Any) -> Batches:
    if not isinstance(options, Mapping):
        raise ValueError(f"batches, {name}: its arguments by name are expected, got {options!r}")
    made: Batches = call(name, kind, options)
    return made
