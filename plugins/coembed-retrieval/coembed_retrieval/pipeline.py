"""Pipeline: retrieve by several stages, fuse, rerank; and say what each stage found and lost."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from coembed.arguments import items_list, number
from coembed.index import Hit, Where
from coembed.ranking import rank_scores
from coembed_retrieval.fusion import Fusion, fusion
from coembed_retrieval.rerank import Rerank, Score
from coembed_retrieval.stages import Retriever

Hits = list[list[Hit]]


@dataclass(frozen=True)
class StageFigures:
    """What one stage gave: `recall` by k, `found`, the share of right ones among all its candidates, and its cost.

    No later stage can recall more than what was found here: `found` is the ceiling.
    """

    stage: str
    recall: Mapping[int, float]
    found: float
    candidates: float
    seconds: float


@dataclass(frozen=True)
class Report:
    """The figures of every stage, in order; `str` is a table."""

    stages: tuple[StageFigures, ...]
    queries: int

    def __str__(self) -> str:
        ks = list(self.stages[0].recall)
        width = max(5, *(len(stage.stage) for stage in self.stages))
        head = "".join(f"{f'R@{k}':>8}" for k in ks)
        lines = [f"{'stage':{width}}{head}{'ceiling':>9}{'candidates':>12}{'ms/query':>10}"]
        for stage in self.stages:
            cells = "".join(f"{stage.recall[k]:8.3f}" for k in ks)
            each = 1000 * stage.seconds / max(1, self.queries)
            lines.append(f"{stage.stage:{width}}{cells}{stage.found:9.3f}{stage.candidates:12.1f}{each:10.1f}")
        return "\n".join(lines)


class Pipeline:
    """Retrievers, one way to fuse them, and rerankers one after another.

    `fuse` is "rrf", weights (in the retrievers' order, or by their names) or a Fusion; with one retriever it is left
    out. Each retriever gives `depth` candidates a query. `rerank` takes `Rerank` stages or plain callables
    (query, hits) -> scores, which then read 50.

    >>> from coembed_retrieval import BM25
    >>> index = BM25()
    >>> index.add(["a", "b"], ["a red cat", "a red dog"])
    >>> pipeline = Pipeline([index], rerank=[lambda query, hits: [hit.id == "b" for hit in hits]])
    >>> [hit.id for hit in pipeline.search(["red"], k=2)[0]]
    ['b', 'a']
    """

    def __init__(
        self,
        retrieve: Sequence[Retriever],
        fuse: str | Fusion | Sequence[float] | Mapping[str, float] | None = None,
        rerank: Sequence[Rerank | Score] = (),
        *,
        depth: int = 100,
    ) -> None:
        number("depth", depth, whole=True, least=1)
        if not retrieve:
            raise ValueError("Pipeline needs at least one retriever")
        self.retrieve, self.depth = tuple(retrieve), depth
        self.fuse = fusion(fuse, [stage.name for stage in self.retrieve])
        self.rerank = tuple(stage if isinstance(stage, Rerank) else Rerank(stage) for stage in rerank)

    def search(self, queries: Sequence[Any], k: int = 10, where: Where | None = None) -> Hits:
        """The k best hits for each query after all stages; `where` restricts every retriever, as in `Index.search`.

        Raises ValueError for a k that a reranker's depth can't give, and whatever the stages raise.
        """
        items_list(queries, "Pipeline.search")
        number("k", k, whole=True, least=1)
        for stage in self.rerank:
            if stage.depth < k:
                raise ValueError(f"k {k}: reranker {stage.label} reads {stage.depth} candidates: Rerank(…, depth={k})")
        *_, (_, hits, _) = self.trace(queries, where, max(self.depth, k))
        return [row[:k] for row in hits]

    def trace(
        self, queries: Sequence[Any], where: Where | None = None, depth: int | None = None
    ) -> Iterator[tuple[str, Hits, float]]:
        """Every stage's name, hits and seconds, in order; the last is what `search` gives."""
        depth = self.depth if depth is None else depth
        lists = []
        for stage in self.retrieve:
            began = time.perf_counter()
            lists.append(stage.retrieve(queries, depth, where))
            yield stage.name, lists[-1], time.perf_counter() - began
        hits = lists[0]
        if self.fuse is not None:
            began = time.perf_counter()
            hits = [self.fuse(several) for several in zip(*lists, strict=True)]
            yield f"fused ({self.fuse.name})", hits, time.perf_counter() - began
        for again in self.rerank:
            began = time.perf_counter()
            hits = [again(query, some) for query, some in zip(queries, hits, strict=True)]
            yield again.label, hits, time.perf_counter() - began

    def report(
        self,
        queries: Sequence[Any],
        relevant: Sequence[Collection[str]],
        ks: Sequence[int] = (1, 5, 10),
        where: Where | None = None,
    ) -> Report:
        """Recall after every stage, for queries whose right ids are known; `print` it for a table.

        R@k is the share of a query's right ids among the first k, averaged over queries, ties as in `coembed.ranking`.
        Raises ValueError for a query without a right id.
        """
        items_list(queries, "Pipeline.report")
        if len(queries) != len(relevant):
            raise ValueError(f"report: {len(queries)} queries but {len(relevant)} sets of right ids")
        for row, right in enumerate(relevant):
            if isinstance(right, str) or not right:
                raise ValueError(f"report: query {row} needs a collection of right ids, got {right!r}")
        stages = []
        for name, hits, seconds in self.trace(queries, where):
            recall, found = recalls(hits, relevant, ks)
            count = sum(map(len, hits)) / max(1, len(hits))
            stages.append(StageFigures(name, recall, found, count, seconds))
        return Report(tuple(stages), len(queries))


def recalls(
    hits: Sequence[Sequence[Hit]], relevant: Sequence[Collection[str]], ks: Sequence[int]
) -> tuple[dict[int, float], float]:
    """Mean recall at every k, and among all hits.

    >>> recalls([[Hit("a", 2.0), Hit("b", 1.0)]], [{"b", "c"}], [1, 2])
    ({1: 0.0, 2: 0.5}, 0.5)
    """
    width = max(
        (len(set(right) | {hit.id for hit in some}) for some, right in zip(hits, relevant, strict=True)), default=1
    )
    scores = torch.full((len(hits), width), -torch.inf, dtype=torch.float64)
    columns: list[list[int]] = []
    found = 0.0
    for row, (some, right) in enumerate(zip(hits, relevant, strict=True)):
        ids = [hit.id for hit in some]
        scores[row, : len(ids)] = torch.tensor([hit.score for hit in some], dtype=torch.float64)
        at = {name: column for column, name in enumerate(ids)}
        found += len(set(right) & set(at)) / len(set(right))
        columns.append([at.setdefault(name, len(at)) for name in set(right)])  # one that was not found scores -inf
    ranking = rank_scores(scores, columns)
    return {k: ranking.recall(k).mean().item() for k in ks}, found / max(1, len(hits))
