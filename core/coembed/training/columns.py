"""A task's records in columns, so that a step over thousands of them is a few gathers and no loop."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from torch import Tensor

from coembed.features import item_keys
from coembed.shards import KEY, halves
from coembed.sources import Record

if TYPE_CHECKING:
    from coembed.encoder import Encoder
    from coembed.tasks import Task


@dataclass(eq=False)
class ItemKeys:
    """The content keys of a source's items by tower, each computed once, whatever number of tasks reads them."""

    _keys: dict[str, np.ndarray] = field(default_factory=dict)
    _known: dict[str, np.ndarray] = field(default_factory=dict)

    def of(self, tower: str, encoder: Encoder, records: Sequence[Record], places: np.ndarray, size: int) -> np.ndarray:
        """Keys `[N, 16]` of the records' items, which are at `places` of a source of `size` records."""
        keys = self._keys.setdefault(tower, np.zeros((size, KEY), np.uint8))
        known = self._known.setdefault(tower, np.zeros(size, bool))
        new = (~known[places]).nonzero()[0]
        keys[places[new]] = item_keys(encoder, [records[i].items[tower] for i in new.tolist()])
        known[places[new]] = True
        found: np.ndarray = keys[places]
        return found


class Columns(Sequence[Record]):
    """Records, and what steps ask of all of them: who has which tower, weights, equal things as equal numbers.

    `places` are their positions in their source, whose keys are in `shared`. The first `drawn` records (None: all) make
    batches; those behind can only be somebody's negatives.

    >>> columns = Columns([Record({"a": 1, "b": 2}, id="x"), Record({"a": 1}, id="y", weight=0.5)])
    >>> columns.having("b"), columns.weights
    (tensor([ True, False]), tensor([1.0000, 0.5000]))
    """

    def __init__(
        self,
        records: Sequence[Record],
        places: np.ndarray | None = None,
        shared: ItemKeys | None = None,
        size: int = 0,
        drawn: int | None = None,
    ) -> None:
        self.records, self.drawn = records, len(records) if drawn is None else drawn
        self.places = np.arange(len(records)) if places is None else places
        self._shared, self._size = shared or ItemKeys(), size or len(records)
        self._having: dict[str, Tensor] = {}
        self._numbers: dict[str, Tensor] = {}
        self._met: dict[str, dict[Hashable, int]] = {}
        self._distinct: set[str] = set()
        self._weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Record]: ...
    def __getitem__(self, at: int | slice) -> Record | Sequence[Record]:
        return self.records[at]

    @property
    def weights(self) -> Tensor:
        """`[N]` weights."""
        if self._weights is None:
            self._weights = torch.from_numpy(np.fromiter((r.weight for r in self.records), np.float32, len(self)))
        return self._weights

    def having(self, tower: str) -> Tensor:
        """`[N]` bool: the records that have an item for a tower."""
        if tower not in self._having:
            found = np.fromiter((tower in record.items for record in self.records), bool, len(self))
            self._having[tower] = torch.from_numpy(found)
        return self._having[tower]

    def keys(self, tower: str, encoder: Encoder) -> tuple[Tensor, np.ndarray]:
        """The records that have a tower, and their items' keys `[n, 16]`; TypeError for an item without one."""
        at = self.having(tower).nonzero().flatten()
        some = self.records if len(at) == len(self) else [self.records[i] for i in at.tolist()]
        keys = self._shared.of(tower, encoder, some, self.places[at.numpy()], self._size)
        if tower not in self._numbers:
            self._numbers[tower] = torch.full((len(self),), -1)
            numbers = self._numbers[tower][at] = numbered(keys)
            if len(numbers) and int(numbers.max()) + 1 == len(numbers):
                self._distinct.add(tower)
        return at, keys

    def distinct(self, name: str) -> bool:
        """Whether a column is known to hold no number twice, so that no batch does."""
        return name in self._distinct

    def numbers(self, name: str, at: Tensor, key: Callable[[Record], Hashable]) -> Tensor:
        """Numbers of some records, equal where `key` is; each record is asked once. `name` is the column's."""
        column = self._numbers.setdefault(name, torch.full((len(self),), -1))
        met = self._met.setdefault(name, {})
        for i in at[column[at] < 0].tolist():
            column[i] = met.setdefault(key(self.records[i]), len(met))
        return column[at]


class Batch(Sequence[Record]):
    """The records of one step: positions `at` of a task's columns.

    `hard` `[B, k]` holds the positions of each row's hard negatives, -1 for none. Those that are no rows of the batch
    come behind its rows, each once, as rows `extra`: they are there to be embedded and are not counted otherwise.

    >>> batch = Batch(Columns([Record({"a": i}, id=str(i)) for i in range(4)]), [2, 0], torch.tensor([[1], [2]]))
    >>> [record.id for record in batch], batch.rows("a"), batch.extra, batch[2].id
    (['2', '0'], range(0, 2), range(2, 3), '1')
    """

    def __init__(self, columns: Columns, at: Sequence[int], hard: Tensor | None = None) -> None:
        self.columns, self.at, self.hard = columns, torch.tensor(at, dtype=torch.int64), hard
        self._size = len(self.at)
        if hard is not None:
            named = hard[hard >= 0].unique()
            self.at = torch.cat([self.at, named[~torch.isin(named, self.at)]])

    @property
    def extra(self) -> range:
        """The rows of hard negatives from outside of the batch."""
        return range(self._size, len(self.at))

    @classmethod
    def of(cls, records: Sequence[Record]) -> Batch:
        """Records as a batch: as they are, if they are one."""
        return records if isinstance(records, Batch) else cls(Columns(records), range(len(records)))

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, row: int) -> Record: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Record]: ...
    def __getitem__(self, row: int | slice) -> Record | Sequence[Record]:
        if isinstance(row, slice):
            return [self.columns.records[i] for i in self.at[: self._size][row].tolist()]
        return self.columns.records[int(self.at[row])]

    def __iter__(self) -> Iterator[Record]:
        return (self.columns.records[i] for i in self.at[: self._size].tolist())

    def rows(self, *towers: str) -> Sequence[int]:
        """The rows that have all of these towers; a range where it is all rows."""
        have = torch.stack([self.columns.having(tower)[self.at[: self._size]] for tower in towers]).all(0)
        return range(len(self)) if bool(have.all()) else have.nonzero().flatten().tolist()

    def weights(self, rows: Sequence[int]) -> Tensor:
        """The weights of rows."""
        return self.columns.weights[self.positions(rows)]

    def numbers(self, name: str, rows: Sequence[int], key: Callable[[Record], Hashable]) -> Tensor:
        """Numbers of rows, equal where `key` is; see `Columns.numbers`."""
        return self.columns.numbers(name, self.positions(rows), key)

    def hard_of(self, rows: Sequence[int]) -> Tensor:
        """The positions `[n, k]` of the hard negatives of rows; none (k = 0) in a batch that came without."""
        return torch.zeros(len(rows), 0, dtype=torch.int64) if self.hard is None else self.hard[torch.tensor(rows)]

    def positions(self, rows: Sequence[int]) -> Tensor:
        """The positions of rows among the columns."""
        return self.at[rows.start : rows.stop] if isinstance(rows, range) else self.at[torch.tensor(rows)]


def read_columns(tasks: Sequence[Task]) -> list[Columns]:
    """Every task's usable records, and behind them those that can be negatives only."""
    shared: dict[int, ItemKeys] = {}
    found = []
    for task in tasks:
        drawn: list[tuple[int, Record]] = []
        spare: list[tuple[int, Record]] = []
        count = 0
        for place, record in enumerate(task.source):
            count += 1
            if task.usable(record):
                drawn.append((place, record))
            elif task.candidate(record):
                spare.append((place, record))
        keys = shared.setdefault(id(task.source), ItemKeys())
        both = drawn + spare
        places = np.array([place for place, _ in both], np.int64)
        found.append(Columns([record for _, record in both], places, keys, count, len(drawn)))
    return found


def numbered(keys: np.ndarray) -> Tensor:
    """A number for every key `[N, 16]`, equal where the keys are.

    >>> numbered(np.array([[7] * 16, [3] * 16, [7] * 16], np.uint8))
    tensor([1, 0, 1])
    """
    both = halves(keys)
    order = np.argsort(both[:, 0])
    if not np.diff(both[order, 0]).all():  # equal first halves: the second ones decide too, which takes longer
        order = np.lexsort((both[:, 1], both[:, 0]))
    new = (both[order[1:]] != both[order[:-1]]).any(1)
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = np.concatenate([np.zeros(min(1, len(keys)), np.int64), new.cumsum()])
    return torch.from_numpy(numbers)


def linked(columns: Sequence[Tensor]) -> Tensor | None:
    """Rows that are linked by equal numbers in any column, transitively, get the number of their first row.

    None where no two rows are linked, or there is no column.

    >>> linked([torch.tensor([5, 6, 5]), torch.tensor([1, 2, 3])])
    tensor([0, 1, 0])
    """
    if all(np.diff(np.sort(column.numpy())).all() for column in columns):
        return None
    groups = [column.unique(return_inverse=True)[1] for column in columns]
    size = len(columns[0])
    first, before = torch.arange(size), None
    while before is None or not torch.equal(first, before):
        before = first
        for group in groups:
            first = torch.full((size,), size).scatter_reduce(0, group, first, "amin")[group]
    return first
