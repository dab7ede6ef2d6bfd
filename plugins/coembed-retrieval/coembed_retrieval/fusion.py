"""Fusion: several lists of hits for one query to one list, by ranks or by weighted scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from coembed.arguments import number
from coembed.index import Hit

Scale = Callable[[Sequence[float]], Sequence[float]]


class Fusion(Protocol):
    """Lists of hits, one a retriever, to one; `name` is what reports call it."""

    name: str

    def __call__(self, lists: Sequence[Sequence[Hit]]) -> list[Hit]:
        """Every hit of every list once, best first."""


class RRF:
    """Reciprocal rank fusion: a hit's score is the sum of weight / (k + rank) over the lists that have it.

    Ranks count from 1; hits of equal score in a list share the mean of their ranks, so that nothing depends on the
    order in which a retriever happened to give them. Equal sums come in the order of the lists.
    Source: Cormack, Clarke and Büttcher 2009, Reciprocal Rank Fusion, section 2, with its k = 60.

    >>> fused = RRF()([[Hit("a", 9.0), Hit("b", 8.0)], [Hit("b", 0.7)]])
    >>> [(hit.id, round(hit.score, 4)) for hit in fused]
    [('b', 0.0325), ('a', 0.0164)]
    """

    name = "rrf"

    def __init__(self, k: float = 60, weights: Sequence[float] | None = None) -> None:
        number("k", k)
        self.k, self.weights = k, _checked(weights)

    def __call__(self, lists: Sequence[Sequence[Hit]]) -> list[Hit]:
        """See `Fusion`."""
        weights = _for(self.weights, lists)
        parts = [
            {hit.id: weight / (self.k + rank) for hit, rank in zip(hits, mid_ranks(hits), strict=True)}
            for hits, weight in zip(lists, weights, strict=True)
        ]
        return _summed(lists, parts, [0.0] * len(lists))


class Weighted:
    """A weighted sum of scores that are brought to one scale first.

    `scale` is "minmax" (each list from 0 to 1), "z" (each list's mean 0, deviation 1), or for each list a function of
    its scores, such as a fitted `Calibrate`. A list that lacks a hit can't say how good it is, only that it is no
    better than its last: it counts as the list's lowest scaled score, and as 0 where a list is empty.
    Source: Bruch, Gai and Ingber 2023, An Analysis of Fusion Functions for Hybrid Retrieval, section 4.

    >>> fused = Weighted([0.5, 0.5])([[Hit("a", 9.0), Hit("b", 8.0)], [Hit("b", 0.7), Hit("c", 0.1)]])
    >>> [(hit.id, hit.score) for hit in fused]
    [('a', 0.5), ('b', 0.5), ('c', 0.0)]
    """

    name = "weighted"

    def __init__(self, weights: Sequence[float], scale: str | Sequence[Scale] = "minmax") -> None:
        checked = _checked(weights)
        if checked is None:
            raise ValueError("Weighted needs one weight a retriever")
        if isinstance(scale, str) and scale not in _SCALES:
            raise ValueError(f"scale {scale!r}: give {' or '.join(map(repr, _SCALES))}, or one function a retriever")
        if not isinstance(scale, str) and len(scale) != len(checked):
            raise ValueError(f"Weighted: {len(checked)} weights but {len(scale)} scales")
        self.weights, self.scale = checked, scale

    def __call__(self, lists: Sequence[Sequence[Hit]]) -> list[Hit]:
        """See `Fusion`."""
        scales = [_SCALES[self.scale]] * len(lists) if isinstance(self.scale, str) else self.scale
        parts, absent = [], []
        for hits, weight, scale in zip(lists, _for(self.weights, lists), scales, strict=True):
            scaled = [weight * float(value) for value in scale([hit.score for hit in hits])] if hits else []
            parts.append({hit.id: value for hit, value in zip(hits, scaled, strict=True)})
            absent.append(min(scaled, default=0.0))
        return _summed(lists, parts, absent)


def fusion(given: str | Fusion | Sequence[float] | Mapping[str, float] | None, names: Sequence[str]) -> Fusion | None:
    """What `Pipeline(fuse=…)` takes, for retrievers of some names: "rrf", weights, weights by name, or a Fusion.

    Raises ValueError for another word, or weights that do not fit the retrievers.

    >>> fusion({"bm25": 0.3, "dense": 0.7}, ["dense", "bm25"]).weights
    (0.7, 0.3)
    """
    if given is None:
        if len(names) > 1:
            raise ValueError(f"{len(names)} retrievers ({', '.join(names)}) need fuse='rrf' or weights")
        return None
    if isinstance(given, str):
        if given != "rrf":
            raise ValueError(f"fuse {given!r}: give 'rrf', one weight a retriever, or a Fusion")
        return RRF()
    if callable(given):
        return given
    if isinstance(given, Mapping):
        if set(given) != set(names) or len(set(names)) < len(names):
            raise ValueError(f"fuse weighs {', '.join(given)}, the retrievers are {', '.join(names)}")
        given = [given[name] for name in names]
    if len(given) != len(names):
        raise ValueError(f"fuse has {len(given)} weights for {len(names)} retrievers ({', '.join(names)})")
    return Weighted(given)


def mid_ranks(hits: Sequence[Hit]) -> list[float]:
    """Ranks from 1; equal scores share the mean of theirs.

    >>> mid_ranks([Hit("a", 2.0), Hit("b", 1.0), Hit("c", 1.0)])
    [1.0, 2.5, 2.5]
    """
    ranks: list[float] = []
    while len(ranks) < len(hits):
        first = len(ranks)
        last = first
        while last + 1 < len(hits) and hits[last + 1].score == hits[first].score:
            last += 1
        ranks += [(first + last) / 2 + 1] * (last - first + 1)
    return ranks


def minmax(scores: Sequence[float]) -> list[float]:
    """Scores from 0 (the least) to 1 (the most); all 1 where they are equal.

    >>> minmax([4.0, 3.0, 2.0])
    [1.0, 0.5, 0.0]
    """
    least, most = min(scores), max(scores)
    return [1.0 if most == least else (score - least) / (most - least) for score in scores]


def z(scores: Sequence[float]) -> list[float]:
    """Scores less their mean, over their standard deviation; all 0 where they are equal.

    >>> z([2.0, 1.0, 0.0])[1]
    0.0
    """
    mean = math.fsum(scores) / len(scores)
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
    return [(score - mean) / deviation if deviation else 0.0 for score in scores]


_SCALES: dict[str, Scale] = {"minmax": minmax, "z": z}


def _summed(lists: Sequence[Sequence[Hit]], parts: list[dict[str, float]], absent: list[float]) -> list[Hit]:
    payloads: dict[str, object] = {}
    for hits in lists:
        for hit in hits:
            if payloads.get(hit.id) is None:
                payloads[hit.id] = hit.payload
    fused = [
        Hit(name, math.fsum(part.get(name, lack) for part, lack in zip(parts, absent, strict=True)), payload)
        for name, payload in payloads.items()
    ]
    return sorted(fused, key=lambda hit: -hit.score)  # stable: equal sums stay in the order of the lists


def _checked(weights: Sequence[float] | None) -> tuple[float, ...] | None:
    for weight in weights or ():
        number("a weight", weight)
    if weights is not None and not any(weights):
        raise ValueError(f"weights {list(weights)}: at least one above 0 is expected")
    return None if weights is None else tuple(weights)


def _for(weights: tuple[float, ...] | None, lists: Sequence[Sequence[Hit]]) -> tuple[float, ...]:
    found = (1.0,) * len(lists) if weights is None else weights
    if len(found) != len(lists):
        raise ValueError(f"fusion: {len(found)} weights for {len(lists)} lists")
    return found
