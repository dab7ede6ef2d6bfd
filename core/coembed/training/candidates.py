"""The search behind mined negatives: candidates from an index, false ones taken out, the nearest kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from coembed.embedding import Embedding, similarity
from coembed.plugins import build
from coembed.progress import bar
from coembed.training.columns import Columns
from coembed.training.same import Same

if TYPE_CHECKING:
    from coembed.index import Index
    from coembed.space import Space

BLOCK = 1 << 23  # values of candidates' vectors held at once
QUERIES = 512  # searched for at once
DEEPEST = 4096  # candidates of a record that are looked at, where no depth is given


@dataclass(frozen=True)
class Rule:
    """Which candidates are negatives; the fields are those of `coembed.training.mining.Miner`."""

    k: int
    depth: int | None
    skip: int
    ratio: float | None
    margin: float | None
    same: tuple[str, ...]
    interval: tuple[str, str, str] | None
    near: float | None
    index: str | Callable[[], Index]


@dataclass(frozen=True, eq=False)
class Found:
    """The negatives `[n, k]` of the records at `rows`, as positions, nearest first and -1 for none."""

    rows: Sequence[int]
    table: Tensor

    def counts(self) -> dict[str, int]:
        """How many records were asked for, and how many of them got fewer than k."""
        return {"asked": len(self.rows), "short": int((self.table < 0).any(1).sum())}


def search(
    space: Space,
    columns: Columns,
    query: str,
    target: str,
    rule: Rule,
    *,
    roles: Mapping[str, str],
    batch_size: int = 32,
    progress: bool = False,
) -> Found:
    """The negatives of every record that has both towers, among all that have the target; see `mine`."""
    asked = (columns.having(query) & columns.having(target)).nonzero().flatten()
    asked = asked[asked < columns.drawn]
    pool = columns.having(target).nonzero().flatten()
    if not len(asked):
        space[query], space[target]  # a tower that is not there is the likelier fault
        raise ValueError(f"no record has both {query} and {target}: there is nothing to mine for")

    def encode(tower: str, at: Tensor) -> Embedding:
        items = [columns.records[i].items[tower] for i in at.tolist()]
        return space.encode(tower, items, role=roles.get(tower), batch_size=batch_size, progress=progress)

    queries, targets = encode(query, asked), encode(target, pool)
    place = torch.full((len(columns),), -1)  # of a record in the pool
    place[pool] = torch.arange(len(pool))
    encoders = {tower: space[tower].encoder for tower in (query, target)}
    everyone = torch.arange(len(columns))
    groups = [Same(word, encoders).numbers(columns, everyone, (query, target)) for word in rule.same]
    spans = _spans(columns, rule.interval) if rule.interval is not None else None
    flat = targets.pool().normalize() if rule.near is not None else None
    judge = _Judge(columns, targets, place, rule, [group for group in groups if group is not None], spans, flat)
    # Equal targets are one candidate: its first record stands for it.
    twins = Same("content", encoders).numbers(columns, everyone, (target,))
    first = pool if twins is None else twins[pool].unique()
    first = first[targets.present[place[first]]]
    index: Index = build("index", rule.index) if isinstance(rule.index, str) else rule.index()
    if len(index):
        raise ValueError(f"the index of a miner holds {len(index)} rows: give one that is empty, or its name")
    index.add([str(i) for i in first.tolist()], targets[place[first]])

    table = torch.full((len(asked), rule.k), -1)
    left = queries.present.nonzero().flatten()
    depth = min(rule.depth or max(32, 4 * (rule.k + rule.skip)), len(first))
    with bar("mine", len(asked), progress, unit="records") as advance:
        while len(left):
            size = max(1, min(QUERIES, BLOCK // (depth * targets.values[0].numel())))
            for rows in left.split(size):
                hits = index.search(queries[rows], k=depth)
                near = _padded([[int(hit.id) for hit in found] for found in hits], depth)
                best = judge.negatives(queries[rows], asked[rows], near)
                table[rows, : best.shape[1]] = best
            short = (table[left] < 0).any(1)
            advance(int((~short).sum()))
            if rule.depth is not None or depth >= min(DEEPEST, len(first)):
                advance(int(short.sum()))
                break
            left, depth = left[short], min(4 * depth, len(first))
    return Found(asked.tolist(), table)


@dataclass(frozen=True, eq=False)
class _Judge:
    """Tells negatives among candidates; `place` says where in `targets` a record is, `flat` are their means."""

    columns: Columns
    targets: Embedding
    place: Tensor
    rule: Rule
    groups: Sequence[Tensor]
    spans: tuple[Tensor, Tensor, Tensor] | None
    flat: Embedding | None

    def negatives(self, queries: Embedding, asked: Tensor, near: Tensor) -> Tensor:
        """The k best negatives among candidates `[n, depth]` of the records at `asked`, -1 where there are none."""
        there, rule = near >= 0, self.rule
        scores = self._scores(self.targets, queries, near).masked_fill(~there, -torch.inf)
        order = scores.argsort(dim=1, descending=True, stable=True)
        scores, near, there = (x.gather(1, order) for x in (scores, near, there))
        keep = there & ~self._false(asked, near)
        keep &= keep.cumsum(1) > rule.skip
        partner = self._scores(self.targets, queries, asked[:, None])
        if rule.ratio is not None:
            # As much below the partner's score as the ratio takes of its size: a factor would turn round below zero.
            keep &= scores < partner - (1 - rule.ratio) * partner.abs()
        if rule.margin is not None:
            keep &= scores <= partner - rule.margin
        if rule.near is not None and self.flat is not None:
            keep &= self._scores(self.flat, self.flat[self.place[asked]], near) < rule.near
        first = keep.long().argsort(dim=1, descending=True, stable=True)[:, : rule.k]
        return near.gather(1, first).masked_fill(~keep.gather(1, first), -1)

    def _scores(self, of: Embedding, queries: Embedding, near: Tensor) -> Tensor:
        """`[n, depth]` similarities of every query to its own candidates."""
        found, each = of[self.place[near.clamp(min=0)].flatten()], near.shape[1]
        if queries.single and found.single:
            vectors = found.vectors.reshape(len(queries), each, queries.dim)
            return torch.einsum("nd,nkd->nk", queries.vectors, vectors).float()
        rows = [similarity(queries[i : i + 1], found[i * each : (i + 1) * each]) for i in range(len(queries))]
        return torch.cat(rows).float()

    def _false(self, asked: Tensor, near: Tensor) -> Tensor:
        """`[n, depth]` bool: candidates that may well match a record, the same thing or an overlapping interval."""
        found = near == asked[:, None]
        for group in self.groups:
            found |= group[asked][:, None] == group[near]
        if self.spans is not None:
            name, start, end = self.spans
            one, two = asked[:, None], near
            found |= (name[one] == name[two]) & (name[one] >= 0) & (start[one] < end[two]) & (start[two] < end[one])
        return found


def _spans(columns: Columns, keys: tuple[str, str, str]) -> tuple[Tensor, Tensor, Tensor]:
    """The sequence (a number, -1: none), start and end of every record's interval."""
    names: dict[Any, int] = {}
    rows = []
    for record in columns.records:
        if all(key in record.extra for key in keys):
            name, start, end = (record.extra[key] for key in keys)
            rows.append((names.setdefault(name, len(names)), int(start), int(end)))
        else:
            rows.append((-1, 0, 0))
    if not names:
        raise ValueError(f"no record's extra has the interval {', '.join(keys)}")
    name, start, end = torch.tensor(rows).T
    return name, start, end


def _padded(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    table = torch.full((len(rows), width), -1)
    for i, row in enumerate(rows):
        table[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return table
