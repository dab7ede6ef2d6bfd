"""A shelf: an index that is served, whose rows are read by id or by number."""

from __future__ import annotations

import threading
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index import Hit, Index, Stored
from coembed.index.rows import Rows

CHUNK = 4096  # rows read at once
Seen = tuple[int, int, int] | None  # of index.json: file, time, size
SAMPLE = 512  # rows by which is known what scores of an index are usual


@dataclass(eq=False)
class Shelf:
    """One index: `name` it is asked for by, the tower whose vectors it holds, what `kind` of items these are shown as.

    Rows are numbered 0 … N-1 in their order. `gives` says whether the index gives out vectors; where it does not, its
    items are not on the map, and are searched from by their content alone. A shelf is a snapshot, of one `version`.
    """

    name: str
    tower: str
    kind: str
    folder: Path
    index: Index
    version: str
    gives: bool = True
    seen: Seen = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def _segments(self) -> list[tuple[Rows, Tensor]] | None:
        """Rows of a stored index, which are read where they lie, and which of them count; None for other indexes."""
        if not isinstance(self.index, Stored):
            return None
        return [(part.rows, part.kept()) for part in self.index.segments()]

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(kept) for _, kept in self._segments or ())]

    @cached_property
    def _ids(self) -> list[str]:
        return list(self.index.ids)

    @cached_property
    def _at(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._ids)}

    def row(self, name: str) -> int | None:
        """The number of an id, None if it is not here."""
        if self._segments is None:
            return self._at.get(name)
        for (rows, kept), start in zip(self._segments, self._starts, strict=False):
            at = int(rows.find([name])[0])
            place = int(torch.searchsorted(kept, at))
            if at >= 0 and place < len(kept) and int(kept[place]) == at:  # else it was deleted, or is elsewhere
                return start + place
        return None

    def _place(self, row: int) -> tuple[Rows, int]:
        assert self._segments is not None
        number = bisect_right(self._starts, row) - 1
        rows, kept = self._segments[number]
        return rows, int(kept[row - self._starts[number]])

    def id(self, row: int) -> str:
        """The id of a row."""
        if self._segments is None:
            return self._ids[row]
        rows, at = self._place(row)
        return rows.id(at)

    def payload(self, row: int, dim: int) -> Any:
        """The payload of a row; `dim` is the space's width."""
        if self._segments is not None:
            rows, at = self._place(row)
            return rows.payload(at)
        q = Embedding.from_vectors(torch.ones(1, dim))
        with self.lock:  # the interface gives payloads with hits alone
            hits = self.index.search(q, k=1, where=[self.id(row)])[0]
        return hits[0].payload if hits else None

    def vector(self, name: str) -> Embedding | None:
        """The vectors of an id `[1, T, D]`; None if the index does not give them out."""
        if not self.gives:
            return None
        with self.lock:
            return self.index.vectors([name])

    def pooled(self, rows: Tensor) -> Tensor:
        """One vector `[N, D]` for each of some rows: its own, or the mean of its own."""
        names = [self.id(row) for row in rows.tolist()]
        chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
        with self.lock:
            return torch.cat([self.index.vectors(chunk).pool().vectors.float() for chunk in chunks])

    @cached_property
    def sample(self) -> Embedding | None:
        """Some rows `[S, T, D]`, evenly spread; None where vectors are not given out."""
        if not self.gives or not len(self):
            return None
        rows = torch.linspace(0, len(self) - 1, min(SAMPLE, len(self))).round().long().tolist()
        with self.lock:
            return self.index.vectors([self.id(row) for row in sorted(set(rows))])

    def search(self, q: Embedding, k: int, where: str | None) -> list[list[Hit]]:
        """As `Index.search`, by one thread at a time."""
        with self.lock:
            return self.index.search(q, k=k, where=where)


def gives_vectors(index: Index) -> bool:
    """Whether an index gives out the vectors it holds; some keep codes alone."""
    names = _first(index)
    try:
        index.vectors(names)
    except (ValueError, NotImplementedError):
        return False
    return bool(names)


def _first(index: Index) -> list[str]:
    """The first id, without making a list of all."""
    if not isinstance(index, Stored):
        return list(index.ids[:1])
    some = ((part, part.kept()[:1].tolist()) for part in index.segments())
    return next(([part.rows.id(row) for row in rows] for part, rows in some if rows), [])
