"""Exact search in real vectors by us, faiss, usearch and sentence-transformers: all find the same, at what price."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed_bench.machine import cores, highest, load_average
from coembed_bench.report import Aim, Failed, Report
from coembed_bench.search_data import DIM, vectors

if TYPE_CHECKING:
    from torch import Tensor

    from coembed.index import Exact

__all__ = ["interleaved", "recall", "run"]

K, BATCH, SINGLES = 10, 64, 16
FAISS_AIM, ST_AIM, SINGLE_AIM = 15.0, 3.0, 5.0
SHARES = (0.001, 0.01, 0.1, 0.5, 0.99)  # of the rows that a filter lets through
TIE = 2e-6  # scores in float32 that differ by less are one place: peers break such ties as they like
Search = Callable[["Tensor"], Sequence[Sequence[int]]]


def recall(found: Sequence[Sequence[int]], scores: Tensor, k: int = K) -> float:
    """The share of places among the first k that hold a right row; `scores` `[Q, N]` are the true ones.

    >>> import torch
    >>> recall([[0, 2]], torch.tensor([[3.0, 2.0, 1.0]]), k=2)
    0.5
    """
    right = 0
    for rows, row in zip(found, scores, strict=True):
        best = row[row > -float("inf")].topk(min(k, int((row > -float("inf")).sum()))).values
        right += int((row[list(dict.fromkeys(rows))[:k]] >= best[-1] - TIE).sum()) + k - len(best)
    return right / (k * len(scores))


def interleaved(variants: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant, one after another within a round, after one turn that is thrown away.

    >>> list(interleaved({"a": lambda: None}, 2))
    ['a']
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, work in variants.items():
            start = time.perf_counter()
            work()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def run(quick: bool = False) -> Report:
    """Measure 200,000 and 1,000,000 rows, `quick` 50,000 and 200,000; raises Failed if anything misses a neighbour."""
    import torch

    before = load_average()
    sizes = (50_000, 200_000) if quick else (200_000, 1_000_000)
    threads = int(os.environ.get("OMP_NUM_THREADS") or cores())
    torch.set_num_threads(threads)
    _peers()  # said before the minutes that the vectors take
    rows, queries = vectors(sizes[-1], BATCH)
    table: list[dict[str, Any]] = []
    aims: list[Aim] = []
    for size in sizes:
        table += _measure(rows[:size], queries, threads, 3 if size > 500_000 else 5, aims)
    packages = ("coembed", "torch", "faiss-cpu", "usearch", "sentence-transformers", "wordllama")
    units = {"min": "ms a query", "median": "ms a query", "times": "faiss = 1"}
    return Report("search", table, aims, highest(before, load_average()), packages, units)


def _measure(rows: Tensor, queries: Tensor, threads: int, rounds: int, aims: list[Aim]) -> list[dict[str, Any]]:
    """Rows of the table for one size; what it promises goes to `aims`."""
    from coembed import Embedding
    from coembed.index import Exact

    case = f"{len(rows):,}"
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        index = Exact()
        for at in range(0, len(rows), 1 << 17):
            some = rows[at : at + (1 << 17)]
            names = [str(i) for i in range(at, at + len(some))]
            index.add(names, Embedding.from_vectors(some), [{"n": i % 1000} for i in range(at, at + len(some))])
            index.stage(folder)
        index.save(folder)
        built = time.perf_counter() - start
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        start = time.perf_counter()
        index = Exact.load(folder)
        opened = time.perf_counter() - start
        table = [
            {"system": "coembed", "case": f"{case} x {DIM}, build and save", "seconds": round(built, 1)},
            {"system": "coembed", "case": f"{case} x {DIM}, open", "seconds": round(opened, 4)},
            {"system": "coembed", "case": f"{case} x {DIM}, bytes a row", "bytes": round(size / len(rows), 1)},
        ]
        systems = _systems(index, rows, threads)
        scores = _true(queries, rows)
        found = {name: recall(search(queries), scores) for name, search in systems.items()}
        wrong = {name: value for name, value in found.items() if value < 1}
        if wrong:
            raise Failed(f"search: recall@{K} below 1 at {case} rows: {wrong}")
        alone = [i for row in queries[:SINGLES].split(1) for i in systems["coembed"](row)]
        if recall(alone, scores[:SINGLES]) < 1:
            raise Failed(f"search: single queries miss a neighbour at {case} rows")
        batch = interleaved({name: partial(search, queries) for name, search in systems.items()}, rounds)
        table += _rows(f"{case}, batch of {len(queries)}", batch, len(queries), found)
        singly = {name: s for name, s in systems.items() if name != "usearch"}  # which takes one query as it takes 64
        one = interleaved({name: partial(_singly, search, queries) for name, search in singly.items()}, rounds)
        table += _rows(f"{case}, single query", one, SINGLES, found)
        aims += [
            Aim(f"{case}, batch: faiss / coembed", _ratio(batch, "faiss"), FAISS_AIM, least=True),
            Aim(f"{case}, batch: sentence-transformers / coembed", _ratio(batch, "ST"), ST_AIM, least=True),
            Aim(f"{case}, single: faiss / coembed", _ratio(one, "faiss"), SINGLE_AIM, least=True),
        ]
        table += _filtered(index, queries, scores, case, rounds)
    return table


def _singly(search: Search, queries: Tensor) -> None:
    for row in queries[:SINGLES].split(1):
        search(row)


def _filtered(index: Exact, queries: Tensor, scores: Tensor, case: str, rounds: int) -> list[dict[str, Any]]:
    """Searches among a share of the rows, by filters of their payloads; no allowed neighbour may be missed."""
    import torch

    from coembed import Embedding

    numbers = torch.arange(scores.shape[1]) % 1000
    table = []
    for share in SHARES:
        where = f"n < {round(1000 * share)}"
        true = scores.masked_fill(numbers >= round(1000 * share), -torch.inf)
        value = min(
            recall(_ids(index.search(Embedding.from_vectors(q), K, where=where)), s)
            for q, s in ((queries, true), (queries[:1], true[:1]))
        )
        if value < 1:
            raise Failed(f"search: recall@{K} {value:.4f} at {case} rows with {where}")
        variants = {
            name: partial(index.search, Embedding.from_vectors(q), K, where=where)
            for name, q in (("batch", queries), ("single", queries[:1]))
        }
        times = interleaved(variants, rounds)
        for name, count in (("batch", len(queries)), ("single", 1)):
            row = _rows(f"{case}, {name}, filter {share:.1%}", {"coembed": times[name]}, count, {"coembed": value})
            table += row
    return table


def _peers() -> None:
    try:
        import faiss  # noqa: F401
        import sentence_transformers  # noqa: F401
        import usearch.index  # noqa: F401
    except ImportError as error:
        raise Failed(f"search: a peer is missing ({error}): pip install 'coembed-bench[search]'") from error


def _systems(index: Exact, rows: Tensor, threads: int) -> dict[str, Search]:
    """Ways from queries `[Q, D]` to the rows of their best, over the same vectors with as many threads."""
    import faiss
    from sentence_transformers.util import dot_score, semantic_search
    from usearch.index import search as exactly

    from coembed import Embedding

    faiss.omp_set_num_threads(threads)
    flat = faiss.IndexFlatIP(rows.shape[1])
    flat.add(rows.numpy())
    array = rows.numpy()

    def usearch(q: Tensor) -> Sequence[Sequence[int]]:
        found = exactly(array, q.numpy(), K, "ip", exact=True, threads=threads)
        return [[int(key) for key in row] for row in found.keys]

    def transformers(q: Tensor) -> Sequence[Sequence[int]]:
        found = semantic_search(q, rows, top_k=K, score_function=dot_score)
        return [[int(hit["corpus_id"]) for hit in row] for row in found]

    return {
        "coembed": lambda q: _ids(index.search(Embedding.from_vectors(q), K)),
        "faiss": lambda q: flat.search(q.numpy(), K)[1].tolist(),
        "usearch": usearch,
        "ST": transformers,
    }


def _ids(found: Any) -> list[list[int]]:
    return [[int(hit.id) for hit in row] for row in found]


def _true(queries: Tensor, rows: Tensor) -> Tensor:
    """Scores `[Q, N]` in float64, some rows at a time."""
    import torch

    return torch.cat([queries.double() @ part.double().T for part in rows.split(100_000)], 1)


def _rows(case: str, times: Mapping[str, list[float]], count: int, found: Mapping[str, float]) -> list[dict[str, Any]]:
    table = []
    for name, seconds in times.items():
        row: dict[str, Any] = {"system": name, "case": case}
        ms = [1000 * value / count for value in seconds]
        row |= {"min": min(ms), "median": statistics.median(ms), "recall": f"{found[name]:.4f}"}
        if "faiss" in times:
            row["times"] = _ratio(times, "faiss", name)
        table.append(row)
    return table


def _ratio(times: Mapping[str, list[float]], peer: str, ours: str = "coembed") -> float:
    """How many times as long the peer takes, by the medians."""
    return statistics.median(times[peer]) / statistics.median(times[ours])
