"""Stored: what indexes that keep their own rows share: ids, payloads, vectors, deletes, filters, and their folder."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index import stored
from coembed.index.base import Hit, Index, Where, check_rows
from coembed.index.folder import IndexFileError, Writer, read_facts, writing
from coembed.index.found import Found
from coembed.index.masks import Masks
from coembed.index.report import Size
from coembed.index.rows import ListRows, hashed
from coembed.index.segment import Segment, gathered, joined

_BYTES = 1 << 29  # vectors of a segment: what writing one needs in memory
_SMALL = 8  # segments that `save` leaves unmerged though each is small


class Stored(Index):
    """An index that keeps its rows itself, in segments that never change; a subclass says how they are searched.

    On disk it is a folder of segments (see `folder`). A loaded one is memory-mapped: it opens at once and reads what is
    searched. It is a snapshot; `save` to the folder that it was loaded from writes what is new and marks what is gone,
    and fails if another process has changed the folder since.

    A subclass writes `search`, from `segments()`, `masks(where)` and `hits(…)`. If it searches anything but vectors, it
    makes that in `prepare`, which runs before rows are searched or saved: codes a row go to `Segment.codes`, and are
    kept, joined and saved with the rows; what belongs to the index as a whole goes to files by `write` and `open`.
    `settings` are its arguments, by which `load` builds it again.
    """

    sketched: ClassVar[bool] = False  # whether segments may make sketches, which exact search reads

    def __init__(self) -> None:
        super().__init__()
        self.dim: int | None = None
        self._sealed: list[Segment] = []
        self._fresh: list[Segment] = []  # what was added and not saved; joined when searched
        self._home: tuple[Path, str] | None = None  # the folder and version that it was loaded from or saved to
        self._masks: Masks | None = None  # what filters have learned of the payloads

    def __len__(self) -> int:
        return sum(part.live for part in (*self._sealed, *self._fresh))

    def __contains__(self, name: str) -> bool:
        return bool(self._find([name])[0][0] >= 0)

    def settings(self) -> dict[str, Any]:
        """The arguments that the index was built with, as JSON types."""
        return {}

    def accept(self, x: Embedding) -> None:
        """Raise ValueError for rows that the index does not take; called before anything is added or replaced."""

    def prepare(self) -> None:
        """Make what is searched, of segments that lack it; called with single additions joined."""

    def write(self, writer: Writer) -> dict[str, str]:
        """Write what belongs to the index as a whole, to `writer.fresh` paths; gives their names by what they are."""
        return {}

    def open(self, folder: Path, files: Mapping[str, str]) -> None:
        """Take in what `write` wrote; raises ValueError naming the file that does not fit."""

    @property
    def ids(self) -> list[str]:
        """The ids in the order they were added."""
        return [part.rows.id(row) for part in self.segments() for row in part.kept().tolist()]

    def add(
        self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None, *, skip_absent: bool = False
    ) -> None:
        """Add rows of one or more vectors; see `Index.add`."""
        names, rows, given = check_rows(ids, x, payloads, dim=self.dim, taken=(), skip_absent=skip_absent)
        self.accept(rows)
        there = np.flatnonzero(self._find(names)[0] >= 0)
        if len(there):
            check_rows(ids, x, payloads, dim=self.dim, taken={names[there[0]]}, skip_absent=skip_absent)
        self.dim, self._masks = x.dim, None
        if names:
            lengths = rows.mask.sum(1)
            vectors = rows.values[rows.mask].detach().float().clone()
            every = None if bool((lengths == 1).all()) else lengths
            self._fresh.append(Segment(ListRows(names, given), vectors, every, sketched=self.sketched))
            while len(self._fresh) > 1 and 2 * len(self._fresh[-1]) >= len(self._fresh[-2]):
                if self._fresh[-1].form != self._fresh[-2].form:
                    break
                self._fresh[-2:] = [joined(self._fresh[-2:])]  # few, whatever the size of additions

    def update(self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None) -> None:
        """Add rows, in place of those of the same ids; see `Index.update`."""
        names, rows, _ = check_rows(ids, x, payloads, dim=self.dim, taken=(), skip_absent=False)
        self.accept(rows)
        there = np.flatnonzero(self._find(names)[0] >= 0).tolist()
        self.delete([names[i] for i in there])
        self.add(ids, x, payloads)

    def delete(self, ids: Collection[str]) -> None:
        """Remove rows: they are marked, and their bytes go with the next `compact`, or merge of segments."""
        names = list(ids)
        parts, rows = self._find(names)
        for at in np.flatnonzero(parts < 0).tolist():
            raise KeyError(f"index: there is no id {names[at]!r} to delete")
        segments, self._masks = [*self._sealed, *self._fresh], None
        for number in np.unique(parts).tolist():
            part = segments[number]
            gone = torch.zeros(len(part), dtype=torch.bool) if part.gone is None else part.gone.clone()
            gone[torch.from_numpy(rows[parts == number])] = True
            part.gone, part.gone_file = gone, None

    def select(self, where: Where) -> list[str]:
        """The ids of the rows that `where` allows, in order; `where` and errors as in `search`.

        >>> from coembed.index import Exact
        >>> index = Exact()
        >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)), [{"year": 2019}, {"year": 2021}])
        >>> index.select("year > 2020")
        ['y']
        """
        found = []
        for part, kept in zip(self.segments(), self.masks(where), strict=True):
            rows = part.kept() if kept is None else kept.nonzero().flatten()
            found += [part.rows.id(row) for row in rows.tolist()]
        return found

    def vectors(self, ids: Sequence[str]) -> Embedding:
        """The vectors of some rows; see `Index.vectors`."""
        parts, rows = self._find(ids)
        for at in np.flatnonzero(parts < 0).tolist():
            raise KeyError(f"index: there is no id {ids[at]!r}")
        segments = [*self._sealed, *self._fresh]
        if any(part.vectors.shape[1] != self.dim for part in segments):
            raise ValueError(f"index: this {self.kind} keeps codes, not the vectors that they were made of")
        return gathered(segments, torch.from_numpy(parts), torch.from_numpy(rows), self.dim or 0)

    def batches(self, size: int = 1 << 14) -> Iterator[tuple[list[str], Embedding, list[Any]]]:
        """Ids, vectors and payloads, some rows at a time, as `add` takes them; raises as `vectors`."""
        for part in self.segments():
            for rows in part.kept().split(size):
                ids = [part.rows.id(row) for row in rows.tolist()]
                yield ids, self.vectors(ids), [part.rows.payload(row) for row in rows.tolist()]

    def segments(self) -> list[Segment]:
        """All segments, those of single additions joined into one, ready to be searched."""
        if len(self._fresh) > 1:
            runs = [list(run) for _, run in groupby(self._fresh, lambda part: part.form)]
            self._fresh, self._masks = [joined(run) if len(run) > 1 else run[0] for run in runs], None
        return [*self._sealed, *self._fresh]

    def masks(self, where: Where | None) -> list[Tensor | None]:
        """The rows that count, a mask `[N]` a segment, deleted ones left out (None: all); raises as `search`."""
        segments = self.segments()
        if where is None:
            return [None if part.gone is None else ~part.gone for part in segments]
        if self._masks is None:
            self._masks = Masks(segments)
        found = self._masks.of(where)
        return [mask if part.gone is None else mask & ~part.gone for part, mask in zip(segments, found, strict=True)]

    def hits(self, best: Found, asked: Tensor, queries: int) -> list[list[Hit]]:
        """What was found as hits, a list for each of the queries, of which those numbered `asked` were searched.

        Rows are numbered over all segments, deleted ones among them.
        """
        segments = self.segments()
        starts = [0, *accumulate(len(part) for part in segments)]
        found: list[list[Hit]] = [[] for _ in range(queries)]
        numbers = asked[best.queries].tolist()
        for query, row, score in zip(numbers, best.rows.tolist(), best.scores.tolist(), strict=True):
            number = bisect_right(starts, row) - 1
            rows, at = segments[number].rows, row - starts[number]
            found[query].append(Hit(rows.id(at), score, rows.payload(at)))
        return found

    def nbytes(self) -> Size:
        """Bytes in memory and on disk; see `Index.nbytes`. Of rows not saved yet, what saving them would write."""
        home, segments = None if self._home is None else self._home[0], self.segments()
        disk = sum(stored.weight(part, home) for part in segments)
        return Size(disk - sum(part.vectors.nbytes for part in segments if part.codes), disk)

    def _find(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """For each id the number of its segment and its row there; -1 for one that is not here."""
        parts, rows = np.full(len(names), -1), np.full(len(names), -1)
        hashes = hashed(names) if self._sealed else None  # once for all segments
        for number, part in enumerate((*self._sealed, *self._fresh)):
            at = part.rows.find(names, hashes)
            if part.gone is not None:
                at = np.where((at >= 0) & ~part.gone.numpy()[at], at, -1)
            parts[at >= 0], rows[at >= 0] = number, at[at >= 0]
        return parts, rows

    def compact(self) -> None:
        """Let go of what is deleted and join small segments; `save` writes the result.

        >>> from coembed.index import Exact
        >>> index = Exact()
        >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)))
        >>> index.delete(["x"])
        >>> index.compact()
        >>> index.ids
        ['y']
        """
        self._merge(lambda part: part.gone is None and part.nbytes * 2 > _BYTES)

    def _merge(self, keep: Callable[[Segment], bool]) -> None:
        """Join runs of neighbours, up to `_BYTES`, but those that `keep` says; the order of rows stays."""
        merged: list[Segment] = []
        run: list[Segment] = []
        for part in [*self.segments(), None]:
            size = sum(each.nbytes for each in run) + (0 if part is None else part.nbytes)
            if run and (part is None or keep(part) or size > _BYTES or part.form != run[0].form):
                one = joined(run) if len(run) > 1 or run[0].gone is not None else run[0]
                merged += [one] if len(one) else []
                run = []
            if part is not None:
                (merged if keep(part) else run).append(part)
        self._sealed, self._fresh, self._masks = merged, [], None

    def stage(self, folder: Path | str) -> None:
        """Write the rows added so far to a folder and keep them memory-mapped; they count there once `save` says so.

        For building in bounded memory; hold `coembed.index.writing(folder)` from the first call to `save`.
        """
        with writing(folder) as writer:
            for part in self.segments():
                stored.write(writer, part)
            for part in self._fresh:
                coded = None if part.codes_file is None else writer.folder / part.codes_file
                read = stored.reopen(writer.folder / str(part.file), len(part), self.dim, coded, self.sketched)
                read.gone, read.gone_file = part.gone, part.gone_file
                self._sealed.append(read)
            self._fresh, self._masks = [], None

    def save(self, folder: Path | str) -> None:
        """Write index.json and the segments that are not there yet; see `Index.save`."""
        with writing(folder) as writer:
            version = writer.version()
            home, known = self._home if self._home is not None else (None, None)
            if home == writer.folder and version is not None and version != known:
                raise IndexFileError(
                    f"{folder} was changed since this index was loaded from it: load it again, or save elsewhere"
                )
            if home != writer.folder:  # files of the same name are not ours
                present = {path.name for path in writer.folder.iterdir()} if home is None else set()
                for part in self._sealed:
                    part.file = part.file if part.file in present else None
            small = [part for part in self.segments() if part.nbytes * 16 < _BYTES]
            if len(small) > _SMALL:
                self._merge(lambda part: part.nbytes * 16 >= _BYTES)
            self.prepare()
            parts = self.segments()
            for part in parts:
                stored.write(writer, part)
            others = self.write(writer)
            names = [name for part in parts for name in stored.files(part)]
            facts = {"kind": self.kind, "dim": self.dim, "count": len(self), "meta": self.meta}
            facts |= {"settings": self.settings()} if self.settings() else {}
            facts |= {"others": others} if others else {}
            entries = {"segments": [stored.facts(part) for part in parts]}
            version = writer.commit(facts | entries, [*names, *others.values()])
            self._sealed, self._fresh, self._home = parts, [], (writer.folder, version)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote, memory-mapped; see `Index.load`."""
        folder = Path(folder)
        kind = read_facts(folder)["kind"]
        if kind != cls.kind:
            raise IndexFileError(f"{folder}: its kind is {kind}, not {cls.kind}; open_index reads any kind")

        open_rest = partial(cls._built, folder)
        facts, segments, index = stored.read(folder, open_rest, "count", "meta", sketched=cls.sketched)
        index._sealed, index.meta = segments, facts["meta"]
        index._home = (folder.resolve(), facts["version"])
        if len(index) != facts["count"]:
            raise IndexFileError(f"{folder}: {len(index)} rows does not fit what index.json says ({facts['count']})")
        return index

    @classmethod
    def _built(cls, folder: Path, facts: Mapping[str, Any]) -> Self:
        try:
            index = cls(**facts.get("settings", {}))
            index.dim = facts["dim"]
            index.open(folder, facts.get("others", {}))
        except (OSError, TypeError, ValueError, KeyError) as error:
            text = str(error)
            raise IndexFileError(text if str(folder) in text else f"{folder}: damaged: {text}") from error
        return index
