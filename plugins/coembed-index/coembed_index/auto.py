"""Auto: an index chosen by the number of rows, their width and the memory there is."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from coembed import load
from coembed.embedding import Embedding
from coembed.index import Exact, Hit, Index, Size, Stored, Where, open_index

__all__ = ["Auto", "Choice", "choose"]

EXACT = 200_000_000  # numbers (rows times width) up to which comparing all is fast enough
SCANNED = 4_000_000_000  # bytes of codes up to which a scan is
_EDGES = 200  # bytes a row of a graph beside its vector


@dataclass(frozen=True)
class Choice:
    """A kind of index, its arguments, and why it was chosen."""

    kind: str
    arguments: dict[str, Any]
    reason: str


def choose(rows: int, dim: int, memory: float, tokens: float = 1.0) -> Choice:
    """The index for some rows of a width, `tokens` vectors a row on average, in at most `memory` bytes.

    Exact search while it is fast enough and fits; then a graph, of two bytes a number or, where these don't fit, of
    one; then sign bits, while a scan of them is fast enough; then lists of product codes.

    >>> choose(10_000, 384, 8e9).kind, choose(5_000_000, 384, 8e9).kind, choose(5_000_000, 384, 1e9).kind
    ('exact', 'index/hnsw', 'index/binary')
    """
    sized = f"{rows:,} rows of width {dim}"
    budget = f"{memory / 1e9:.2g} GB"
    numbers = rows * dim * tokens
    exact = 6 * numbers  # float32, eight-bit codes and their heads
    if exact <= memory and numbers <= EXACT:
        return Choice("exact", {}, f"{sized}: comparing all of them is fast, and {exact / 1e9:.2g} GB fit {budget}")
    if tokens > 1:
        return Choice("index/multivector", {}, f"{sized}, {tokens:.0f} vectors each: two stages save comparing all")
    for dtype, bytes_each in (("f16", 2), ("i8", 1)):
        graph = rows * (bytes_each * dim + _EDGES)
        if graph <= memory:
            reason = f"{sized}: too many to compare all, and a graph of {graph / 1e9:.2g} GB fits {budget}"
            return Choice("index/hnsw", {"dtype": dtype}, reason)
    bits = rows * (dim / 8)
    if bits <= memory and bits <= SCANNED:
        return Choice("index/binary", {}, f"{sized}: a graph does not fit {budget}, {bits / 1e9:.2g} GB of bits do")
    return Choice("index/ivfpq", {}, f"{sized}: neither a graph nor bits fit {budget}, lists of product codes are left")


class Auto(Index):
    """Rows are gathered, and when they are first searched or saved, the index for so many of them is built.

    It stays of that kind while rows come and go; `rebuild` chooses anew. `memory` is the most that it may take, in GB
    (None: half of the machine's). What is saved is a folder of the chosen kind; its meta says why, as do `report` and
    `coembed index info`.

    >>> import torch
    >>> index = Auto()
    >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)))
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.1, 1.0]])), k=1)[0][0].id, index.chosen.kind
    ('y', 'exact')
    """

    kind = "index/auto"

    def __init__(self, *, memory: float | None = None) -> None:
        super().__init__()
        if memory is not None and memory <= 0:
            raise ValueError(f"memory {memory} GB must be more than 0")
        self.memory = memory
        self._gathered: Stored | None = Exact()
        self._inner: Index | None = None

    @property
    def chosen(self) -> Index:
        """The index that was chosen; choosing it now if that was not done yet."""
        if self._inner is None:
            assert self._gathered is not None, "rows are gathered until an index is chosen"
            self._take(self._built(self._gathered))
            self._gathered = None
        assert self._inner is not None, "it was just taken"
        return self._inner

    @property
    def recall(self) -> float:  # type: ignore[override]
        """What the chosen index states."""
        return self.chosen.recall

    def rebuild(self) -> None:
        """Choose anew for the rows that are there now, and build that; raises ValueError if no vectors are kept."""
        old = self.chosen
        if not isinstance(old, Stored):
            raise ValueError(f"index/auto: {old.kind} can't be read back: build it again from the vectors")
        self._take(self._built(old))

    def _take(self, made: Index) -> None:
        """Facts about the vectors are one dict, whoever writes to it."""
        made.meta = self.meta | {"auto": made.meta["auto"]}
        self._inner, self.meta = made, made.meta

    def _built(self, rows: Stored) -> Index:
        parts = rows.segments()
        vectors = sum(int(part.lengths.sum()) if part.lengths is not None else len(part) for part in parts)
        budget = _half() if self.memory is None else self.memory * 1e9
        choice = choose(len(rows), rows.dim or 1, budget, vectors / max(1, sum(map(len, parts))))
        made: Index = rows if choice.kind == rows.kind else load(choice.kind, "index", **choice.arguments)
        if made is not rows:
            for ids, x, payloads in rows.batches():
                made.add(ids, x, payloads)
        made.meta["auto"] = choice.reason
        return made

    def describe(self) -> str:
        """Why the index was chosen."""
        said = self.chosen.describe()
        return f"index/auto chose {self.chosen.kind}: {self.chosen.meta.get('auto', '')}" + (
            f"; {said}" if said else ""
        )

    def add(
        self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None, *, skip_absent: bool = False
    ) -> None:
        """Add rows; see `Index.add`."""
        self._now.add(ids, x, payloads, skip_absent=skip_absent)

    def update(self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None) -> None:
        """Add rows, in place of those of the same ids; see `Index.update`."""
        self._now.update(ids, x, payloads)

    def delete(self, ids: Collection[str]) -> None:
        """Remove rows; see `Index.delete`."""
        self._now.delete(ids)

    def search(self, q: Embedding, k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """Search the chosen index; see `Index.search`."""
        return self.chosen.search(q, k, where)

    def vectors(self, ids: Sequence[str]) -> Embedding:
        """The vectors of some rows; see `Index.vectors`."""
        return self._now.vectors(ids)

    def nbytes(self) -> Size | None:
        """Bytes of the chosen index; see `Index.nbytes`."""
        return self.chosen.nbytes()

    def save(self, folder: Path | str) -> None:
        """Write the chosen index, under its own kind; see `Index.save`."""
        made = self.chosen
        made.meta = self.meta  # whoever gave it another dict
        made.save(folder)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read an index of any kind; see `Index.load`."""
        index = cls()
        index._inner, index._gathered = open_index(folder), None
        index.meta = index._inner.meta
        return index

    def __len__(self) -> int:
        return len(self._now)

    @property
    def ids(self) -> Sequence[str]:
        """The ids in the order they were added."""
        return self._now.ids

    @property
    def _now(self) -> Index:
        if self._inner is not None:
            return self._inner
        assert self._gathered is not None, "rows are gathered until an index is chosen"
        return self._gathered


def _half() -> float:
    """Half of the machine's memory, in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (AttributeError, OSError, ValueError):
        return 4e9
