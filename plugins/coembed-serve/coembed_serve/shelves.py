"""What is served: a space, and indexes of its towers, whose rows are read by id or by number."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index import Hit, Index, Stored, open_index
from coembed.index.folder import read_facts
from coembed.index.rows import Rows
from coembed.space import Space

KINDS = ("text", "image", "code", "audio", "dna", "protein", "graph")  # what items are shown as
CHUNK = 4096  # rows read at once
SAMPLE = 512  # rows by which is known what scores of an index are usual


@dataclass(eq=False)
class Shelf:
    """One index: `name` it is asked for by, the tower whose vectors it holds, what `kind` of items these are shown as.

    Rows are numbered 0 … N-1 in their order. `gives` says whether the index gives out vectors; where it does not, its
    items are not on the map, and are searched from by their content alone.
    """

    name: str
    tower: str
    kind: str
    folder: Path
    index: Index
    version: str
    gives: bool = True
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
    names = list(index.ids[:1])
    try:
        index.vectors(names)
    except (ValueError, NotImplementedError):
        return False
    return bool(names)


class Library:
    """A space and its shelves by name."""

    def __init__(self, space: Space, folder: Path, shelves: Sequence[Shelf]) -> None:
        self.space, self.folder = space, folder
        self.shelves = {shelf.name: shelf for shelf in shelves}

    def __iter__(self) -> Iterator[Shelf]:
        return iter(self.shelves.values())

    def __len__(self) -> int:
        return sum(len(shelf) for shelf in self)


def open_library(space: Space, folder: Path, indexes: Sequence[str]) -> Library:
    """The space with the given indexes (`FOLDER`, or `TOWER=FOLDER` where it does not say its tower itself).

    Without any, those in the space's own folder. Raises ValueError for an index of no tower of the space, and where
    there is none.
    """
    order = {name: at for at, name in enumerate(space)}
    inside = sorted((path.parent for path in (folder / "index").glob("*/index.json")), key=lambda path: path.name)
    inside.sort(key=lambda path: order.get(path.name, len(order)))
    shelves: list[Shelf] = []
    for given in indexes or [str(path) for path in inside]:
        prefix, sign, rest = given.partition("=")
        named = bool(sign) and prefix in space.towers
        shelves.append(_shelf(space, prefix if named else None, Path(rest if named else given), shelves))
    if not shelves:
        raise ValueError(f"{folder} has no index: make one by `coembed index {folder} --tower NAME INPUT…`")
    return Library(space, folder, shelves)


def _shelf(space: Space, tower: str | None, folder: Path, others: Sequence[Shelf]) -> Shelf:
    while True:  # another process may replace it between the readings
        version = str(read_facts(folder)["version"])
        index = open_index(folder)
        if read_facts(folder)["version"] == version:
            break
    tower = tower or index.meta.get("tower")
    if tower is None:
        raise ValueError(f"{folder} does not say whose vectors it holds: give it as TOWER={folder}")
    if tower not in space.towers:
        raise ValueError(f"{folder} is an index of tower {tower}; the space has {', '.join(space)}")
    same = sum(shelf.tower == tower for shelf in others)
    name = f"{tower}-{same + 1}" if same else tower
    # A text encoder may well read code: what its tower is called says more of what to show than what it reads.
    kind = tower if tower in KINDS else space[tower].encoder.spec.modality
    return Shelf(name, tower, kind, folder, index, version, gives_vectors(index))
