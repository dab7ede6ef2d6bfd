"""Duplicates: rows whose score with each other reaches a threshold, and the groups that they form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index.found import Found
from coembed.index.scan import scan
from coembed.index.segment import Segment

_QUERIES = 512  # rows compared with all others at once


class _Bar(Found):
    """Wants every row that reaches a fixed score."""

    fixed = True

    def __init__(self, queries: int, threshold: float) -> None:
        super().__init__(queries, 1 << 62)
        self.floor = torch.full((queries,), threshold)


def near(segments: list[Segment], threshold: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of rows (earlier, later) that score at least `threshold`, exactly; rows are counted over all segments.

    Vectors are compared block by block, from codes where there are some: the bound of `scan` loses none.
    """
    starts = np.cumsum([0, *map(len, segments)]).tolist()
    for number, part in enumerate(segments):
        for rows in part.kept().split(_QUERIES):
            q = Embedding.from_vectors(part.vectors[rows])
            bar = _Bar(len(rows), threshold)
            for other, start in zip(segments[number:], starts[number:], strict=False):
                # Within one segment only later rows count: every pair once, and none with itself.
                mask = None if other.gone is None else ~other.gone
                if other is part:
                    mask = (torch.arange(len(part)) > rows[0]) & (mask if mask is not None else True)
                for queries, found in scan(other, q, bar, mask):
                    reached = other.pairs(q, queries, found) >= threshold
                    one, two = rows[queries[reached]] + starts[number], found[reached] + start
                    later = two > one
                    yield one[later], two[later]


def groups(pairs: Iterator[tuple[Tensor, Tensor]], count: int) -> list[list[int]]:
    """The connected rows, groups of two and more, each and all of them in the order of rows.

    >>> groups(iter([(torch.tensor([0, 3]), torch.tensor([2, 4]))]), 5)
    [[0, 2], [3, 4]]
    """
    root = list(range(count))

    def find(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    for ones, twos in pairs:
        for one, two in zip(ones.tolist(), twos.tolist(), strict=True):
            a, b = find(one), find(two)
            root[max(a, b)] = min(a, b)
    found: dict[int, list[int]] = {}
    for row in range(count):
        found.setdefault(find(row), []).append(row)
    return [rows for rows in found.values() if len(rows) > 1]
