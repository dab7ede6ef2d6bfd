"""evaluate: a space and a source to retrieval figures, both directions of every pair of towers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.items import content_key
from coembed.metrics import bootstrap, chance, compare, distinct, modality_gap, rank_embeddings
from coembed.registry import near
from coembed.sources.base import Record, Source
from coembed.sources.given import source_from
from coembed.spec import Spec

Pairs = Sequence[tuple[str, str]]


class Encodes(Protocol):
    """What evaluation needs of a space. If it can be iterated, that gives the names of its towers."""

    def encode(self, tower: str, items: Sequence[Any], *, batch_size: int = 32, progress: bool = False) -> Embedding:
        """Items of one tower to `[N, T, D]`, in the order given."""


@dataclass(frozen=True)
class Column:
    """The different items of one tower, and the records that each occurs in (record position to item position)."""

    tower: str
    items: list[Any]
    at: dict[int, int]


def evaluate(
    space: Encodes,
    source: str | Path | Source,
    *,
    ks: Sequence[int] = (1, 5, 10),
    pairs: Pairs | None = None,
    labels: bool = False,
    intervals: int = 0,
    dim: int | None = None,
    layer: int | Mapping[str, int] | None = None,
    roles: Mapping[str, str] | None = None,
    queries: bool = False,
    batch_size: int = 32,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """Retrieval figures of a space, by direction: `{"image->text": {"R@1": …, …}, "text->image": …}`.

    `pairs` names the pairs of towers, each taken both ways (None: every pair that records of the source have). Right
    is what occurs in a record with the query, or, with `labels`, in a record of the same label: that joins towers which
    no record has both of, where a label names one thing (a gene's DNA and the text about its protein). Equal items (the
    same text twice) are one query and one candidate, right wherever one of them is; the candidates of a direction are
    the items that are right for some query. `dim` cuts vectors to a Matryoshka size, `layer` stops encoders early (a
    mapping: each tower at its own layer, those left out at full depth), `roles` gives towers the prompt of a role. Each
    direction has

    - `n` queries and `candidates`, and `missing`, the vectors of either that are absent or not finite (misses);
    - `R@k` (is a right one among the first k), `MRR`, `nDCG@10`, `MAP`, `median_rank`; see `coembed.ranking` for ties;
    - `chance_…` for each of these;
    - `distinct`, how many different vectors the candidates have, and `gap`, the distance of the two modalities' means;
    - `emergent`, if the space has trained: whether no record ever trained these two towers together;
    - with `intervals` (a number of resamplings), `…_interval`: 95 % by bootstrap over the groups of the queries, and
      `p_chance`, the p that MRR is no better than chance (`coembed.metrics.compare`);
    - with `queries`, the lists `query_MRR`, `query_chance_MRR` and `query_group`, to compare systems query by query.

    Raises ValueError for an unknown tower, role or layer, a `dim` that vectors can't be cut to, or a source without a
    record for a pair.

    >>> from coembed.sources import Records
    >>> from coembed.testing import toy_encoder
    >>> from coembed import Space
    >>> encoder = toy_encoder(dim=16)
    >>> words = ["ant", "bee", "cat"]
    >>> found = evaluate(Space({"text": encoder, "code": encoder}), Records.pairs(text=words, code=words))
    >>> found["text->code"]["R@1"], round(found["text->code"]["chance_R@1"], 2)
    (1.0, 0.33)
    """
    records = list(source_from(source))
    wanted = _wanted(space, records, pairs, labels)
    columns = {name: _column(space, name, records) for name in dict.fromkeys(name for pair in wanted for name in pair)}
    right = {(a, b): _right(records, columns[a], columns[b], labels) for a, b in wanted}  # before the long work
    have = list(space) if isinstance(space, Iterable) else list(columns)
    _known(roles or {}, have, "roles names")
    layers = layer if isinstance(layer, Mapping) else {} if layer is None else dict.fromkeys(columns, layer)
    _known(layers, have, "layer names")
    rows = {}
    for name, column in columns.items():
        asked: dict[str, Any] = {} if dim is None else {"dim": dim}
        asked |= {"role": roles[name]} if roles and name in roles else {}
        asked |= {"layer": layers[name]} if name in layers else {}
        rows[name] = space.encode(name, column.items, batch_size=batch_size, progress=progress, **asked)
    trained: set[frozenset[str]] = getattr(space, "trained_pairs", set())
    found: dict[str, dict[str, Any]] = {}
    for (a, b), some in right.items():
        for one, two, matches in ((a, b, some), (b, a, [(j, i) for i, j in some])):
            figures = _direction(rows[one], rows[two], matches, columns[one], records, ks, intervals, queries)
            found[f"{one}->{two}"] = figures | ({"emergent": {a, b} not in trained} if trained else {})
    return found


class Retrieval:
    """The eval "retrieval": `evaluate` with its settings kept.

    >>> Retrieval(ks=[1]).ks
    (1,)
    """

    spec: Spec | None = None

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """An instance for the conformance kit."""
        return cls()

    def __init__(
        self,
        ks: Sequence[int] = (1, 5, 10),
        pairs: Pairs | None = None,
        labels: bool = False,
        intervals: int = 0,
        dim: int | None = None,
        layer: int | Mapping[str, int] | None = None,
        roles: Mapping[str, str] | None = None,
        batch_size: int = 32,
        progress: bool = False,
    ) -> None:
        self.ks, self.pairs, self.labels, self.intervals = tuple(ks), pairs, labels, intervals
        self.dim, self.layer, self.roles = dim, layer, dict(roles or {})
        self.batch_size, self.progress = batch_size, progress

    def __call__(self, space: Encodes, source: Source) -> dict[str, dict[str, Any]]:
        """The figures by direction; see `evaluate`."""
        return evaluate(
            space,
            source,
            ks=self.ks,
            pairs=self.pairs,
            labels=self.labels,
            intervals=self.intervals,
            dim=self.dim,
            layer=self.layer,
            roles=self.roles,
            batch_size=self.batch_size,
            progress=self.progress,
        )


def _wanted(space: Encodes, records: list[Record], pairs: Pairs | None, labels: bool) -> list[tuple[str, str]]:
    """The pairs of towers to evaluate, in the order of the space."""
    seen = list(dict.fromkeys(name for record in records for name in record.items))
    have = list(space) if isinstance(space, Iterable) else seen
    if pairs is not None:
        _known((name for pair in pairs for name in pair), have, "pairs names")
        return list(pairs)
    together = {pair for record in records for pair in combinations([name for name in have if name in record], 2)}
    if labels:
        by_label: dict[str, set[str]] = {}
        for record in records:
            if record.label is not None:
                by_label.setdefault(record.label, set()).update(record.items)
        together |= {pair for names in by_label.values() for pair in combinations([n for n in have if n in names], 2)}
    if not together:
        named = f"no record has two towers of the space ({', '.join(have)})"
        raise ValueError(f"evaluate: {named}; {len(records)} records have {', '.join(seen) or 'none'}")
    return [pair for pair in combinations(have, 2) if pair in together]


def _known(names: Iterable[str], have: Sequence[str], who: str) -> None:
    for name in names:
        if name not in have:
            close = near(name, have)
            hint = f"did you mean {close[0]!r}?" if close else f"its towers: {', '.join(have)}"
            raise ValueError(f"evaluate: {who} {name!r}, but the space has no tower {name!r}; {hint}")


def _column(space: Encodes, tower: str, records: list[Record]) -> Column:
    """The different items of a tower, told apart by content."""
    towers = getattr(space, "towers", {})  # an encoder knows best which of its items are equal
    key = towers[tower].encoder.key if tower in towers else content_key
    items: list[Any] = []
    numbers: dict[bytes, int] = {}
    at: dict[int, int] = {}
    for position, record in enumerate(records):
        if tower in record:
            at[position] = numbers.setdefault(key(record[tower]), len(items))
            if at[position] == len(items):
                items.append(record[tower])
    return Column(tower, items, at)


def _right(records: list[Record], a: Column, b: Column, labels: bool) -> list[tuple[int, int]]:
    """Pairs of items of a and b that belong together."""
    right = {(i, b.at[position]) for position, i in a.at.items() if position in b.at}
    if labels:
        sides: dict[str, tuple[set[int], set[int]]] = {}
        for position, record in enumerate(records):
            if record.label is not None:
                for side, column in enumerate((a, b)):
                    if position in column.at:
                        sides.setdefault(record.label, (set(), set()))[side].add(column.at[position])
        right |= {(i, j) for ones, twos in sides.values() for i in ones for j in twos}
    if not right:
        raise ValueError(f"evaluate: no record has both {a.tower!r} and {b.tower!r}")
    return sorted(right)


def _direction(
    queries: Embedding,
    documents: Embedding,
    right: list[tuple[int, int]],
    column: Column,
    records: list[Record],
    ks: Sequence[int],
    intervals: int,
    queries_too: bool,
) -> dict[str, Any]:
    asked = {i: row for row, i in enumerate(sorted({i for i, _ in right}))}
    pool = {j: row for row, j in enumerate(sorted({j for _, j in right}))}
    relevant: list[list[int]] = [[] for _ in asked]
    for i, j in right:
        relevant[asked[i]].append(pool[j])
    q, d = queries[list(asked)], documents[list(pool)]
    ranking = rank_embeddings(q, d, relevant)
    figures: dict[str, Any] = {"n": len(q), "candidates": len(d), "missing": _missing(q) + _missing(d)}
    figures |= ranking.figures(ks)
    by_chance = chance(ranking.right, len(d))
    figures |= {f"chance_{name}": value for name, value in by_chance.figures(ks).items()}
    figures |= {"distinct": distinct(d), "gap": modality_gap(q, d)}
    first = {i: records[position] for position, i in reversed(column.at.items())}
    groups = [first[i].group if first[i].group is not None else first[i].id for i in asked]
    found, guessed = ranking.reciprocal_rank(), by_chance.reciprocal_rank()
    if intervals:
        for name, values in ranking.each(ks).items():
            interval = bootstrap(values, groups, n=intervals)
            figures[f"{name}_interval"] = [interval.low, interval.high]
        figures["p_chance"] = compare(found, guessed, groups, n=intervals).p
    if queries_too:
        figures |= {"query_MRR": found.tolist(), "query_chance_MRR": guessed.tolist(), "query_group": groups}
    return figures


def _missing(x: Embedding) -> int:
    finite: Tensor = torch.isfinite(x.values).all(-1) | ~x.mask
    return int((~(finite.all(1) & x.present)).sum())
