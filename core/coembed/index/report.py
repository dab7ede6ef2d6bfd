"""What an index finds, weighs and takes: recall against brute force on a sample, true bytes, milliseconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from coembed.embedding import Embedding, similarity

if TYPE_CHECKING:
    from coembed.index.base import Hit, Index

_ROWS = 1 << 14  # rows of brute force at once
_SINGLES = 32  # queries searched one by one
_ROUNDS = 3
_TIE = 4e-6  # of the best score: what float32 can't tell apart is one place


@dataclass(frozen=True)
class Size:
    """Bytes of an index, ids, payloads and codebooks counted.

    `memory` is what every search reads or looks up; `disk` all that is saved, vectors for rescoring among it.
    """

    memory: int
    disk: int


@dataclass(frozen=True)
class IndexReport:
    """What `Index.report` found; `recall` is None where there are no vectors to compare with, sizes where not known.

    `single_ms` is the time of a query by itself, `batch_ms` a query's share of `queries` at once. `note` is what the
    index says of itself.
    """

    kind: str
    rows: int
    dim: int | None
    k: int
    queries: int
    recall: float | None
    memory: int | None
    disk: int | None
    single_ms: float
    batch_ms: float
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        recall = "not known: it keeps no vectors, give exact=" if self.recall is None else f"{self.recall:.4f}"
        weight = "not known"
        if self.memory is not None and self.disk is not None:
            each = max(1, self.rows)
            weight = f"{self.memory / each:.0f} in memory, {self.disk / each:.0f} on disk"
        lines = [
            f"{self.kind}: {self.rows:,} rows of width {self.dim}",
            f"recall@{self.k} against brute force, {self.queries} queries: {recall}",
            f"bytes a row, ids and payloads counted: {weight}",
            f"ms a query: {self.single_ms:.3f} one by one, {self.batch_ms:.3f} in a batch of {self.queries}",
        ]
        return "\n".join([*lines, self.note] if self.note else lines)


def measure(
    index: Index, queries: Embedding | None, sample: int, k: int, exact: Index | None, note: str
) -> IndexReport:
    """See `Index.report`."""
    names, source = list(index.ids), exact if exact is not None else index
    if not names or sample < 1 or k < 1:
        raise ValueError(f"report: {len(names)} rows, sample {sample}, k {k}: each must be at least 1")
    own: list[str] | None = None
    if queries is None:
        step = max(1, len(names) // sample)
        own = names[::step][:sample]
        try:
            queries = source.vectors(own)
        except ValueError as error:
            width = getattr(index, "dim", None)
            if not width or exact is not None:
                raise ValueError(f"{error}; give report queries= and, for its recall, exact=") from error
            # Time can be measured with any queries.
            drawn = torch.randn(len(own), width, generator=torch.Generator().manual_seed(0))
            queries, own = Embedding.from_vectors(drawn).normalize(), None
    wide = k if own is None else k + 1  # a row finds itself first, which proves nothing
    found = _found(index, queries, wide, own)
    try:
        recall: float | None = _recall(found, queries, names, source, k, own)
    except ValueError:
        if exact is not None:
            raise
        recall = None
    batch = min(_seconds(lambda: index.search(queries, wide)) for _ in range(_ROUNDS)) / len(queries)
    single = statistics.median(
        _seconds(lambda at=at: index.search(queries[at : at + 1], wide))  # type: ignore[misc]
        for at in range(min(_SINGLES, len(queries)))
    )
    size = index.nbytes()
    return IndexReport(
        index.kind,
        len(names),
        queries.dim,
        k,
        len(queries),
        recall,
        None if size is None else size.memory,
        None if size is None else size.disk,
        1000 * single,
        1000 * batch,
        note,
    )


def _found(index: Index, queries: Embedding, k: int, own: list[str] | None) -> list[list[str]]:
    rows: list[list[Hit]] = index.search(queries, k)
    names = [[hit.id for hit in row] for row in rows]
    if own is None:
        return names
    return [[name for name in row if name != mine][: k - 1] for row, mine in zip(names, own, strict=True)]


def _recall(
    found: list[list[str]], queries: Embedding, names: Sequence[str], source: Index, k: int, own: list[str] | None
) -> float:
    """The share of places among the first k that hold a right row; a row that ties with the last is right."""
    at = {name: row for row, name in enumerate(names)}
    mine = None if own is None else torch.tensor([at[name] for name in own])
    best = torch.full((len(queries), 0), -torch.inf)
    scored: list[dict[str, float]] = [{} for _ in found]
    for start in range(0, len(names), _ROWS):
        part = names[start : start + _ROWS]
        scores = similarity(queries, source.vectors(part)).float()  # [Q, R]
        if mine is not None:
            here = (mine >= start) & (mine < start + len(part))
            scores[here, mine[here] - start] = -torch.inf
        for query, row in enumerate(found):
            inside = [name for name in dict.fromkeys(row) if start <= at[name] < start + len(part)]
            scored[query] |= {name: float(scores[query, at[name] - start]) for name in inside}
        both: Tensor = torch.cat([best, scores], 1)
        best = both.topk(min(k, both.shape[1]), 1).values
    right = total = 0
    for seen, most in zip(scored, best, strict=True):
        places = most[most > -torch.inf]
        floor = float(places.min()) - _TIE * float(places.abs().max()) if len(places) else 0.0
        right += min(len(places), sum(score >= floor for score in seen.values()))
        total += len(places)
    return right / max(1, total)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
