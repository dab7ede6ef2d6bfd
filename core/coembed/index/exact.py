"""Exact: every vector is compared with every query; nothing is missed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index.base import Hit, Where, check_queries
from coembed.index.duplicates import groups, near
from coembed.index.found import Found
from coembed.index.narrow import FEW, narrow
from coembed.index.scan import scan
from coembed.index.segment import Segment
from coembed.index.store import Stored

_QUERIES = 1024  # queries taken at once
_KEPT = 1 << 22  # hits kept at once: many are asked for by fewer queries at a time


class Exact(Stored):
    """Exact search by MaxSim; with one vector a row and a query, by dot product. Vectors are kept in float32.

    Rows are first scored roughly from eight bits, with a proven bound on the error, so that most can be left out with
    none lost (see `sketch`, `scan` and `narrow`); what may be among the best is scored in float32, each pair by itself,
    so that a pair's score does not depend on what else is searched. Equal scores come in the order in which the rows
    were added. For what is on disk see `Stored`.

    >>> index = Exact()
    >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)), payloads=["east", "north"])
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.0, 2.0]])), k=1)
    [[Hit(id='y', score=2.0, payload='north')]]
    """

    kind = "exact"
    sketched = True

    def search(self, q: Embedding, k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best rows for each query; see `Index.search`."""
        check_queries(q, k, self.dim)
        segments, masks = self.segments(), self.masks(where)
        k = min(k, max(1, len(self)))
        size = max(1, min(_QUERIES, _KEPT // k))
        hits: list[list[Hit]] = []
        for start in range(0, len(q), size):
            part = q[start : start + size]
            values = part.values.detach().cpu().float().masked_fill(~part.mask.cpu().unsqueeze(-1), 0)
            hits += self._search(Embedding(values, part.mask.cpu()), k, segments, masks)
        return hits

    def _search(self, q: Embedding, k: int, segments: list[Segment], masks: Sequence[Tensor | None]) -> list[list[Hit]]:
        asked = q.present.nonzero().flatten()
        best, starts = Found(len(asked), k), [0, *accumulate(len(part) for part in segments)]
        for part, mask, start in zip(segments, masks, starts, strict=False):
            if len(asked) and (mask is None or bool(mask.any())):
                gather(part, q[asked], best, mask, start)
        return self.hits(best, asked, len(q))

    def duplicates(self, threshold: float = 0.95) -> list[list[str]]:
        """Groups of ids whose vectors score at least `threshold` with another of their group, exactly.

        Two rows are in one group if a chain of such pairs joins them; of unit vectors the score is the cosine. Keep the
        first of each group, and delete the rest, to be rid of near-duplicates. Work grows with the square of the rows.
        Raises ValueError for rows of several vectors, whose score is not the same both ways: pool them first.

        >>> index = Exact()
        >>> index.add(["x", "y", "z"], Embedding.from_vectors(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.99, 0.1]])))
        >>> index.duplicates()
        [['x', 'z']]
        """
        segments = self.segments()
        if any(part.lengths is not None for part in segments):
            raise ValueError("index: duplicates are of rows of one vector: add them as x.pool()")
        rows = [(part, row) for part in segments for row in range(len(part))]
        found = groups(near(segments, threshold), len(rows))
        return [[rows[at][0].rows.id(rows[at][1]) for at in group] for group in found]


def gather(part: Segment, q: Embedding, best: Found, mask: Tensor | None, start: int) -> None:
    """The best rows of a segment into `best`, under their numbers among all rows, of which its first is `start`."""
    made = part.sketch()
    few = mask is not None and int(mask.sum()) * 3 < len(part)  # then reading only their codes is less
    if len(q) <= FEW and made is not None and made.head is not None and part.lengths is None and not few:
        for at in range(len(q)):
            for rows in narrow(part, made, made.head, q, at, best, mask):
                queries = torch.full_like(rows, at)
                best.add(queries, rows + start, part.pairs(q, queries, rows))
        return
    for queries, rows in scan(part, q, best, mask):
        best.add(queries, rows + start, part.pairs(q, queries, rows))
