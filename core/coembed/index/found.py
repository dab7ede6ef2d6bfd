"""Found: the best rows of every query so far, and the score that a row needs to be among them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Found:
    """The k best (row, score) pairs of B queries; of equal scores the row that was added first.

    `floor` `[B]` is each query's k-th best score, -inf while it has fewer.

    >>> found = Found(1, 2)
    >>> found.add(torch.tensor([0, 0, 0]), torch.tensor([5, 3, 4]), torch.tensor([1.0, 2.0, 1.0]))
    >>> found.rows.tolist(), found.floor.tolist()
    ([3, 4], [1.0])
    """

    fixed = False  # whether the floor is what it is, so that rough scores need not raise it

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.queries = torch.zeros(0, dtype=torch.long)
        self.rows = torch.zeros(0, dtype=torch.long)
        self.scores = torch.zeros(0)
        self.floor = torch.full((queries,), -torch.inf)

    def add(self, queries: Tensor, rows: Tensor, scores: Tensor) -> None:
        """Take in pairs with their exact scores; a pair must not come twice."""
        if not len(queries):
            return
        q, r, s = (torch.cat(p) for p in ((self.queries, queries), (self.rows, rows), (self.scores, scores)))
        order = torch.from_numpy(np.lexsort((r.numpy(), -s.numpy(), q.numpy())))
        q = q[order]
        rank = torch.arange(len(q)) - torch.searchsorted(q, q)
        kept = rank < self.k
        order = order[kept]
        self.queries, self.rows, self.scores = q[kept], r[order], s[order]
        last = rank[kept] == self.k - 1
        self.floor[self.queries[last]] = self.scores[last]
