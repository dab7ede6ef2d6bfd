"""Every index of coembed-index on the same real vectors, beside faiss and usearch used directly in the same way.

Recall is the share of a query's true ten that are found (see `search`), of queries that are no rows. Bytes are what a
row takes in memory, codebooks, edges and ids counted, and on disk. Before anything is timed, what we find with a
library is held against the library by itself: the same rows where it is deterministic, the same recall elsewhere.
Systems take turns; of each query, and of the batch, the fastest turn counts, and of single queries the median of these.
Left out are index/multivector, for rows of several vectors, and index/bebr and index/prf, which their recipes measure.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed_bench.index_plot import scatter
from coembed_bench.machine import cores, highest, load_average
from coembed_bench.report import Aim, Failed, Report
from coembed_bench.search import K, Search, interleaved, recall
from coembed_bench.search_data import vectors

if TYPE_CHECKING:
    from torch import Tensor

    from coembed.index import Index

__all__ = ["run"]

QUERIES, SINGLES, ROUNDS = 256, 24, 3
GRAPH = {"dtype": "f16", "connectivity": 16, "build": 128, "search_width": 64}
# What each row of the table is: its name, the kind, its arguments, and the same of a library that it stands beside.
OURS: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("exact", "exact", {}, "faiss Flat"),
    ("int8", "index/int8", {}, ""),
    ("int8, codes only", "index/int8", {"scales": "dim", "keep": "none"}, "faiss SQ8"),
    ("binary", "index/binary", {}, ""),
    ("binary, int8 kept", "index/binary", {"keep": "int8"}, ""),
    ("binary, codes only", "index/binary", {"keep": "none"}, ""),
    ("hnsw", "index/hnsw", {**GRAPH}, ""),
    ("hnsw i8", "index/hnsw", {**GRAPH, "dtype": "i8", "rescore": 4}, ""),
    ("hnsw, no rescoring", "index/hnsw", {**GRAPH, "rescore": 0}, "usearch HNSW"),
    ("ivfpq", "index/ivfpq", {}, ""),
    ("ivfpq, no rescoring", "index/ivfpq", {"rescore": 0}, "faiss IVF-PQ"),
    ("bidr", "index/bidr", {}, ""),
    ("auto", "index/auto", {}, ""),
)
SAME = 0.02  # recall by which two builds of one graph may differ


@dataclass
class Measured:
    """An index, ours or a library's: how it searches, what it weighs, how long it took to build."""

    system: str
    name: str
    search: Search
    memory: float
    disk: float | None
    seconds: float
    beside: str = ""


def run(quick: bool = False) -> Report:
    """Measure 20,000 rows, `quick` 5,000; raises Failed if an index finds less than the library it is built on."""
    import torch

    before = load_average()
    threads = int(os.environ.get("OMP_NUM_THREADS") or cores())
    torch.set_num_threads(threads)
    _needed()
    rows, queries = vectors(5_000 if quick else 20_000, QUERIES)
    with tempfile.TemporaryDirectory() as folder:
        table, aims = measure(rows, queries, threads, Path(folder), 2 if quick else ROUNDS)
    units = {"memory": "bytes a row", "disk": "bytes a row", "single": "ms a query", "batch": "ms a query"}
    packages = ("coembed", "coembed-index", "torch", "faiss-cpu", "usearch", "wordllama")
    picture = scatter(table, f"{len(rows):,} x {rows.shape[1]}: lines of Python source, recall@{K} against bytes a row")
    load = highest(before, load_average())
    return Report("index", table, aims, load, packages, units | {"build": "s"}, {"index.svg": picture})


def measure(
    rows: Tensor, queries: Tensor, threads: int, folder: Path, rounds: int
) -> tuple[list[dict[str, Any]], list[Aim]]:
    """The rows of the table and what they promise; raises Failed as `run`."""
    import torch

    case = f"{len(rows):,} x {rows.shape[1]}"
    scores = torch.cat([queries.double() @ part.double().T for part in rows.split(50_000)], 1)
    every = [_ours(*one, rows, folder) for one in OURS] + _peers(rows, threads)
    found = {each.name: each.search(queries) for each in every}
    recalls = {name: recall(some, scores) for name, some in found.items()}
    _agree(every, found, recalls, threads)
    batch = {name: min(times) for name, times in interleaved(_works(every, queries), rounds).items()}
    turns = [interleaved(_works(every, row), rounds) for row in queries[:SINGLES].split(1)]
    single = {each.name: statistics.median(min(turn[each.name]) for turn in turns) for each in every}
    table = []
    for each in every:
        table.append(
            {
                "system": each.system,
                "case": f"{each.name}, {case}",
                "recall": recalls[each.name],
                "memory": each.memory / len(rows),
                "disk": None if each.disk is None else each.disk / len(rows),
                "single": 1000 * single[each.name],
                "batch": 1000 * batch[each.name] / len(queries),
                "build": round(each.seconds, 2),
            }
        )
    return table, _aims(every, single, batch, recalls)


def _ours(name: str, kind: str, arguments: Mapping[str, Any], beside: str, rows: Tensor, folder: Path) -> Measured:
    from coembed import Embedding, load
    from coembed.index import open_index

    start = time.perf_counter()
    index: Index = load(kind, "index", **arguments)
    for at in range(0, len(rows), 1 << 16):
        some = rows[at : at + (1 << 16)]
        index.add([str(i) for i in range(at, at + len(some))], Embedding.from_vectors(some))
    index.save(folder / name)
    seconds = time.perf_counter() - start
    opened = open_index(folder / name)  # what is timed is what a user has: memory-mapped
    size = opened.nbytes()
    disk = sum(path.stat().st_size for path in (folder / name).iterdir())
    if size is None or abs(size.disk - disk) > 0.02 * disk:
        raise Failed(f"index: {name} says {size}, its folder has {disk} bytes")

    def search(q: Tensor) -> list[list[int]]:
        return [[int(hit.id) for hit in row] for row in opened.search(Embedding.from_vectors(q), K)]

    return Measured("coembed", name, search, size.memory, disk, seconds, beside)


def _peers(rows: Tensor, threads: int) -> list[Measured]:
    """faiss and usearch by themselves, with the arguments of the index of ours that is built on them."""
    import faiss
    import numpy as np
    from usearch.index import Index as Graph

    from coembed_index.ivfpq import POINTS

    faiss.omp_set_num_threads(threads)
    array, dim, made = rows.numpy(), rows.shape[1], []

    def timed(name: str, build: Callable[[], Any], search: Callable[[Any], Search], size: Callable[[Any], int]) -> None:
        start = time.perf_counter()
        index = build()
        seconds = time.perf_counter() - start
        made.append(Measured(name.partition(" ")[0], name, search(index), size(index), None, seconds))

    def flat() -> Any:
        index = faiss.IndexFlatIP(dim)
        index.add(array)
        return index

    def eight() -> Any:
        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        index.train(array)
        index.add(array)
        return index

    def lists() -> Any:
        sample = array[:: max(1, -(-len(array) // (1 << 16)))]
        index = faiss.IndexIVFPQ(
            faiss.IndexFlatIP(dim), dim, min(round(4 * len(sample) ** 0.5), len(sample) // 39), dim // 8, 8, 0
        )
        index.pq.cp.max_points_per_centroid = POINTS
        index.train(np.ascontiguousarray(sample))
        index.add(array)
        index.nprobe = 16
        return index

    def graph() -> Any:
        index = Graph(
            ndim=dim,
            metric="ip",
            dtype=GRAPH["dtype"],
            connectivity=GRAPH["connectivity"],
            expansion_add=GRAPH["build"],
            expansion_search=GRAPH["search_width"],
        )
        index.add(np.arange(len(array)), array, threads=threads)
        return index

    def by_faiss(index: Any) -> Search:
        return lambda q: index.search(q.numpy(), K)[1].tolist()

    def by_usearch(index: Any) -> Search:
        return lambda q: np.atleast_2d(index.search(q.numpy(), K, threads=threads).keys).tolist()

    def of_faiss(index: Any) -> int:
        return int(faiss.serialize_index(index).nbytes)

    timed("faiss Flat", flat, by_faiss, of_faiss)
    timed("faiss SQ8", eight, by_faiss, of_faiss)
    timed("faiss IVF-PQ", lists, by_faiss, of_faiss)
    timed("usearch HNSW", graph, by_usearch, lambda index: int(index.serialized_length))
    return made


def _agree(every: list[Measured], found: Mapping[str, Any], recalls: Mapping[str, float], threads: int) -> None:
    """What stands beside a library finds what it finds, and no index loses what it states."""
    for each in every:
        if not each.beside:
            continue
        ours, theirs = recalls[each.name], recalls[each.beside]
        if ours < theirs - SAME:
            raise Failed(f"index: {each.name} finds {ours:.4f}, {each.beside} by itself {theirs:.4f}")
        same = sum(set(a) == set(b) for a, b in zip(found[each.name], found[each.beside], strict=True))
        if each.beside == "faiss IVF-PQ" and same < 0.98 * len(found[each.name]):
            raise Failed(
                f"index: {each.name} and {each.beside} agree on {same} of {len(found[each.name])} queries only"
            )
    if recalls["exact"] < 1:
        raise Failed(f"index: exact finds {recalls['exact']:.4f}")


def _works(every: list[Measured], queries: Tensor) -> dict[str, Callable[[], Any]]:
    return {each.name: partial(each.search, queries) for each in every}


def _aims(
    every: list[Measured],
    single: Mapping[str, float],
    batch: Mapping[str, float],
    recalls: Mapping[str, float],
) -> list[Aim]:
    """We lose no more than a few times to the library by itself, which knows no ids, payloads, filters or folder."""
    aims = []
    for each in every:
        if each.beside:
            for how, times, most in (("single", single, 5.0), ("batch", batch, 2.0)):
                ratio = times[each.name] / times[each.beside]
                aims.append(Aim(f"{each.name}, {how}: coembed / {each.beside}", ratio, most))
    stated = {"int8": 0.99, "binary": 0.9, "hnsw": 0.9, "ivfpq": 0.8}
    aims += [Aim(f"{name}: recall", recalls[name], least, least=True) for name, least in stated.items()]
    return aims


def _needed() -> None:
    try:
        import faiss  # noqa: F401
        import usearch.index  # noqa: F401

        import coembed_index  # noqa: F401
    except ImportError as error:
        raise Failed(f"index: a peer is missing ({error}): pip install 'coembed-bench[index]'") from error
