"""Scoring: one reported place against the truth, and the candidates against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coembed_bench.dna.reads import Place

if TYPE_CHECKING:
    from coembed_dna.esa.tiling import Fragment

__all__ = ["DEPTHS", "recall", "strict"]

NEAR = 10  # bases
DEPTHS = (1, 5, 25, 50)


def strict(found: Mapping[str, Place], truth: Mapping[str, Place]) -> float:
    """The share of all reads whose one reported place has the right contig and strand and starts within 10 bases.

    A read without a place is wrong.

    >>> truth = {"a": Place("c", 100, "+"), "b": Place("c", 5, "-")}
    >>> strict({"a": Place("c", 110, "+"), "b": Place("c", 5, "+")}, truth)
    0.5
    """
    good = 0
    for name, at in truth.items():
        place = found.get(name)
        good += (
            place is not None
            and (place.contig, place.strand) == (at.contig, at.strand)
            and abs(place.start - at.start) <= NEAR
        )
    return good / len(truth)


def recall(rows: Sequence[Sequence[int]], fragments: Sequence[Fragment], truth: Sequence[Place]) -> dict[int, float]:
    """The share of reads with a fragment that holds them whole among the first 1, 5, 25 and 50 candidates.

    `rows` are the numbers of each read's candidates, best first, -1 for none.

    >>> from coembed_dna.esa.tiling import Fragment
    >>> recall([[1, 0], [-1, -1]], [Fragment("c", 0, 9), Fragment("c", 5, 14)], [Place("c", 2, "+", 6)] * 2)
    {1: 0.0, 5: 0.5, 25: 0.5, 50: 0.5}
    """
    ranks: list[Any] = []
    for row, at in zip(rows, truth, strict=True):
        holds = (
            rank
            for rank, number in enumerate(row)
            if number >= 0
            and fragments[number].contig == at.contig
            and fragments[number].start <= at.start
            and at.end <= fragments[number].end
        )
        ranks.append(next(holds, None))
    return {depth: sum(rank is not None and rank < depth for rank in ranks) / len(ranks) for depth in DEPTHS}
