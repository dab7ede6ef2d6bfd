"""Exact: every vector is compared with every query; nothing is missed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index import stored
from coembed.index.base import Hit, Index, Where, check_queries, check_rows
from coembed.index.duplicates import groups, near
from coembed.index.folder import IndexFileError, read_facts, writing
from coembed.index.found import Found
from coembed.index.masks import Masks
from coembed.index.narrow import FEW, narrow
from coembed.index.rows import ListRows, hashed
from coembed.index.scan import scan
from coembed.index.segment import Segment, joined

_QUERIES = 1024  # queries taken at once
_KEPT = 1 << 22  # hits kept at once: many are asked for by fewer queries at a time
_BYTES = 1 << 29  # vectors of a segment: what writing one needs in memory
_SMALL = 8  # segments that `save` leaves unmerged though each is small


class Exact(Index):
    """Exact search by MaxSim; with one vector a row and a query, by dot product. Vectors are kept in float32.

    Rows are first scored roughly from eight bits, with a proven bound on the error, so that most can be left out with
    none lost (see `sketch`, `scan` and `narrow`); what may be among the best is scored in float32, each pair by itself,
    so that a pair's score does not depend on what else is searched. Equal scores come in the order in which the rows
    were added.

    On disk an index is a folder of segments that are never changed (see `folder`). A loaded one is memory-mapped: it
    opens at once and reads what is searched. It is a snapshot; `save` to the folder that it was loaded from writes what
    is new and marks what is gone, and fails if another process has changed the folder since.

    >>> index = Exact()
    >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)), payloads=["east", "north"])
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.0, 2.0]])), k=1)
    [[Hit(id='y', score=2.0, payload='north')]]
    """

    kind = "exact"

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

    @property
    def ids(self) -> list[str]:
        """The ids in the order they were added."""
        return [part.rows.id(row) for part in self._segments() for row in part.kept().tolist()]

    def add(
        self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None, *, skip_absent: bool = False
    ) -> None:
        """Add rows of one or more vectors; see `Index.add`."""
        names, rows, given = check_rows(ids, x, payloads, dim=self.dim, taken=(), skip_absent=skip_absent)
        there = np.flatnonzero(self._find(names)[0] >= 0)
        if len(there):
            check_rows(ids, x, payloads, dim=self.dim, taken={names[there[0]]}, skip_absent=skip_absent)
        self.dim, self._masks = x.dim, None
        if names:
            lengths = rows.mask.sum(1)
            vectors = rows.values[rows.mask].detach().float().clone()
            every = None if bool((lengths == 1).all()) else lengths
            self._fresh.append(Segment(ListRows(names, given), vectors, every))
            while len(self._fresh) > 1 and 2 * len(self._fresh[-1]) >= len(self._fresh[-2]):
                self._fresh[-2:] = [joined(self._fresh[-2:])]  # few, whatever the size of additions

    def update(self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None) -> None:
        """Add rows, in place of those of the same ids; see `Index.update`."""
        names, _, _ = check_rows(ids, x, payloads, dim=self.dim, taken=(), skip_absent=False)
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

    def search(self, q: Embedding, k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best rows for each query; see `Index.search`."""
        check_queries(q, k, self.dim)
        segments = self._segments()
        if where is not None and self._masks is None:
            self._masks = Masks(segments)
        masks = self._masks.of(where) if self._masks is not None and where is not None else [None] * len(segments)
        k = min(k, max(1, len(self)))
        size = max(1, min(_QUERIES, _KEPT // k))
        hits: list[list[Hit]] = []
        for start in range(0, len(q), size):
            part = q[start : start + size]
            values = part.values.detach().cpu().float().masked_fill(~part.mask.cpu().unsqueeze(-1), 0)
            hits += self._search(Embedding(values, part.mask.cpu()), k, segments, masks)
        return hits

    def _search(self, q: Embedding, k: int, segments: list[Segment], masks: Sequence[Tensor | None]) -> list[list[Hit]]:
        found: list[list[Hit]] = [[] for _ in range(len(q))]
        asked = q.present.nonzero().flatten()
        best, starts = Found(len(asked), k), [0, *accumulate(len(part) for part in segments)]
        for part, mask, start in zip(segments, masks, starts, strict=False):
            kept = mask if part.gone is None else ~part.gone if mask is None else mask & ~part.gone
            if len(asked) and (kept is None or bool(kept.any())):
                gather(part, q[asked], best, kept, start)
        queries = asked[best.queries].tolist()
        for query, row, score in zip(queries, best.rows.tolist(), best.scores.tolist(), strict=True):
            number = bisect_right(starts, row) - 1
            rows, at = segments[number].rows, row - starts[number]
            found[query].append(Hit(rows.id(at), score, rows.payload(at)))
        return found

    def select(self, where: Where) -> list[str]:
        """The ids of the rows that `where` allows, in order; `where` and errors as in `search`.

        >>> index = Exact()
        >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)), [{"year": 2019}, {"year": 2021}])
        >>> index.select("year > 2020")
        ['y']
        """
        segments = self._segments()
        if self._masks is None:
            self._masks = Masks(segments)
        found = []
        for part, mask in zip(segments, self._masks.of(where), strict=True):
            kept = mask if part.gone is None else mask & ~part.gone
            found += [part.rows.id(row) for row in kept.nonzero().flatten().tolist()]
        return found

    def duplicates(self, threshold: float = 0.95) -> list[list[str]]:
        """Groups of ids whose vectors score at least `threshold` with another of their group, exactly.

        Two rows are in one group if a chain of such pairs joins them; of unit vectors the score is the cosine. Keep the
        first of each group, and delete the rest, to be rid of near-duplicates. Work grows with the square of the rows.
        Raises ValueError for rows of several vectors, whose score is not the same both ways: pool them first.

        >>> index = Exact()
        >>> index.add(["x", "y", "z"], Embedding.from_vectors(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.99, 0.1]])))
        >>> index.duplicates()
        [['x', 'z']]
        """
        segments = self._segments()
        if any(part.lengths is not None for part in segments):
            raise ValueError("index: duplicates are of rows of one vector: add them as x.pool()")
        rows = [(part, row) for part in segments for row in range(len(part))]
        found = groups(near(segments, threshold), len(rows))
        return [[rows[at][0].rows.id(rows[at][1]) for at in group] for group in found]

    def _segments(self) -> list[Segment]:
        """All segments, those of single additions joined into one."""
        if len(self._fresh) > 1:
            self._fresh = [joined(self._fresh)]
            self._masks = None
        return [*self._sealed, *self._fresh]

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

        >>> index = Exact()
        >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)))
        >>> index.delete(["x"])
        >>> index.compact()
        >>> index.ids
        ['y']
        """
        self._merge(lambda part: part.gone is None and part.vectors.nbytes * 2 > _BYTES)

    def _merge(self, keep: Any) -> None:
        """Join runs of neighbours, up to `_BYTES`, but those that `keep` says; the order of rows stays."""
        merged: list[Segment] = []
        run: list[Segment] = []
        for part in [*self._segments(), None]:
            size = sum(each.vectors.nbytes for each in run) + (0 if part is None else part.vectors.nbytes)
            if run and (part is None or keep(part) or size > _BYTES):
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
            for part in self._segments():
                stored.write(writer, part)
            for part in self._fresh:
                read = stored.reopen(writer.folder / str(part.file), len(part), self.dim)
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
            small = [part for part in self._segments() if part.vectors.nbytes * 16 < _BYTES]
            if len(small) > _SMALL:
                self._merge(lambda part: part.vectors.nbytes * 16 >= _BYTES)
            parts = self._segments()
            for part in parts:
                stored.write(writer, part)
            names = [name for part in parts for name in (part.file, part.gone_file) if name is not None]
            facts = {"kind": self.kind, "dim": self.dim, "count": len(self), "meta": self.meta}
            version = writer.commit(facts | {"segments": [stored.facts(part) for part in parts]}, names)
            self._sealed, self._fresh, self._home = parts, [], (writer.folder, version)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote, memory-mapped; see `Index.load`."""
        folder = Path(folder)
        kind = read_facts(folder)["kind"]
        if kind != cls.kind:
            raise IndexFileError(f"{folder}: its kind is {kind}, not {cls.kind}; open_index reads any kind")
        facts, segments = stored.read(folder, "count", "meta")
        index = cls()
        index._sealed, index.dim, index.meta = segments, facts["dim"], facts["meta"]
        index._home = (folder.resolve(), facts["version"])
        if len(index) != facts["count"]:
            raise IndexFileError(f"{folder}: {len(index)} rows does not fit what index.json says ({facts['count']})")
        return index


def gather(part: Segment, q: Embedding, best: Found, mask: Tensor | None, start: int) -> None:
    """The best rows of a segment into `best`, under their numbers among all rows, of which its first is `start`."""
    made = part.sketch()
    few = mask is not None and int(mask.sum()) * 3 < len(part)  # then reading only their codes is less
    if len(q) <= FEW and made is not None and made.head is not None and part.lengths is None and not few:
        for at in range(len(q)):
            for rows in narrow(part, made, made.head, q, at, best, mask):
                queries = torch.full_like(rows, at)
                best.add(queries, rows + start, part.pairs(q, queries, rows))
        return
    for queries, rows in scan(part, q, best, mask):
        best.add(queries, rows + start, part.pairs(q, queries, rows))
