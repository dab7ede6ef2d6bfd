"""Metrics: the figures of a ranking, their uncertainty and difference, and two signs of a space that is ill."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.ranking import Ranking, Relevant, chance, rank_embeddings, rank_scores

__all__ = [
    "Comparison",
    "Interval",
    "Ranking",
    "Relevant",
    "bootstrap",
    "chance",
    "compare",
    "distinct",
    "modality_gap",
    "rank_embeddings",
    "rank_scores",
]

_ROWS = 4096  # rows rounded at once


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Tensor, groups: Sequence[Hashable] | None = None, n: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """The mean of values `[Q]` and its percentile interval, resampling whole groups (None: every value alone).

    Near-duplicates in one group are not independent, so resampling them one by one would make the interval too narrow.
    Raises ValueError for no values, NaN, or another number of groups than values.

    >>> bootstrap(torch.tensor([1.0, 1.0, 0.0]), ["a", "a", "b"]).low
    0.0
    """
    means = _resampled(values, groups, n, seed)
    low, high = means.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64))
    return Interval(values.double().mean().item(), low.item(), high.item())


class Comparison(NamedTuple):
    """How much better a system is than another on the same queries: the mean difference, its interval, one-sided p."""

    difference: float
    low: float
    high: float
    p: float


def compare(
    ours: Tensor,
    theirs: Tensor,
    groups: Sequence[Hashable] | None = None,
    n: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Whether figures `[Q]` of one system beat those of another for the same queries: a paired bootstrap over groups.

    p is the share of resamplings in which it is not better, (1 + how many) / (1 + n), so never below 1 / (1 + n).
    A query that was asked several times (with several seeds) belongs to one group. Of a single group nothing can be
    said, and p is 1. Raises ValueError as `bootstrap`, and for columns of different lengths.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 15 and 16.

    >>> ours, theirs = torch.tensor([1.0, 0.5, 1.0, 0.8]), torch.tensor([0.2, 0.5, 0.1, 0.3])
    >>> compare(ours, theirs).p < 0.01, compare(ours, ours).p
    (True, 1.0)
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"compare: {list(ours.shape)} figures of one system, {list(theirs.shape)} of the other")
    difference = ours.double() - theirs.double()
    means = _resampled(difference, groups, n, seed)
    low, high = means.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64))
    alone = len(difference) == 1 or (groups is not None and len(set(groups)) == 1)
    p = 1.0 if alone else (1 + int((means <= 0).sum())) / (1 + n)
    return Comparison(difference.mean().item(), low.item(), high.item(), p)


def _resampled(values: Tensor, groups: Sequence[Hashable] | None, n: int, seed: int) -> Tensor:
    """The means `[n]` of values `[Q]` over groups drawn with replacement."""
    if groups is not None and len(groups) != len(values):
        raise ValueError(f"bootstrap: {len(values)} values but {len(groups)} groups")
    if len(values) == 0 or values.isnan().any():
        raise ValueError(f"bootstrap: at least one value and no NaN is expected, got {len(values)} values")
    numbers: dict[Hashable, int] = {}
    at = torch.tensor([numbers.setdefault(g, len(numbers)) for g in (range(len(values)) if groups is None else groups)])
    sums = torch.zeros(len(numbers), dtype=torch.float64).index_add(0, at, values.double())
    sizes = torch.bincount(at).double()
    generator = torch.Generator().manual_seed(seed)
    means = []
    for _ in range(n):
        drawn = torch.randint(len(numbers), (len(numbers),), generator=generator)
        means.append(sums[drawn].sum() / sizes[drawn].sum())
    return torch.stack(means)


def distinct(x: Embedding) -> int:
    """How many different rows there are among those present, rounded to 1e-6: few of them means collapse.

    >>> distinct(Embedding.from_vectors(torch.ones(5, 2)))
    1
    """
    seen: set[bytes] = set()
    for start in range(0, len(x), _ROWS):
        part = x[start : start + _ROWS]
        rows = part.values.double().mul(1e6).round().add(0.0).numpy()  # adding 0 makes -0 and 0 the same bytes
        for row, mask, there in zip(rows, part.mask.numpy(), part.present.tolist(), strict=True):
            if there:
                seen.add(hashlib.blake2b(row[mask].tobytes(), digest_size=16).digest())
    return len(seen)


def modality_gap(a: Embedding, b: Embedding) -> float:
    """Distance between the means of the unit vectors of two modalities; NaN if one has none that are finite.

    Source: Liang et al. 2022, Mind the Gap, section 4.

    >>> modality_gap(Embedding.from_vectors(torch.eye(2)), Embedding.from_vectors(torch.eye(2)))
    0.0
    """
    means = [x.normalize().values[x.mask & x.values.isfinite().all(-1)].double().mean(0) for x in (a, b)]
    return float(torch.linalg.vector_norm(means[0] - means[1]))
