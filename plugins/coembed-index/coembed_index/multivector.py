"""MultiVector: rows of many vectors in two stages: one wide code a row finds candidates, MaxSim orders them."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index import Segment
from coembed_index.int8 import Int8

__all__ = ["MultiVector"]

_ROWS = 1 << 12  # rows encoded at once


class MultiVector(Int8):
    """Late interaction without comparing every vector of every row: a fixed-dimensional encoding stands for each row.

    Space is cut into 2^`planes` buckets by random planes, `repeats` times. Of a row a bucket holds the mean of its
    vectors there (none: its nearest vector by the planes), of a query their sum; the product of two encodings then
    estimates MaxSim. Each bucket's vector is projected to `width` numbers (None: not), and codes are eight bits each,
    so a row takes repeats * 2^planes * width bytes in memory. `rescore` times k candidates are scored by MaxSim
    itself, from vectors that are memory-mapped. With `planes` 0 and `repeats` 1 the code is the mean of the vectors.
    Source: Dhulipala et al. 2024, MUVERA: Multi-Vector Retrieval via Fixed Dimensional Encodings, section 2.

    >>> index = MultiVector()
    >>> index.add(["x", "y"], Embedding(torch.eye(4).view(2, 2, 4), torch.ones(2, 2, dtype=torch.bool)))
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.0, 0.1, 0.0, 1.0]])), k=1)[0][0].id
    'y'
    """

    kind = "index/multivector"
    recall = 0.9
    multi = True

    def __init__(
        self,
        *,
        planes: int = 4,
        repeats: int = 10,
        width: int | None = 16,
        seed: int = 0,
        keep: str = "float32",
        rescore: int = 16,
    ) -> None:
        if keep == "none" or rescore < 1:
            raise ValueError("index/multivector scores candidates by MaxSim: keep vectors, and rescore at least 1")
        super().__init__(scales="row", keep=keep, rescore=rescore)
        if not 0 <= planes <= 8 or repeats < 1 or (width is not None and width < 1):
            raise ValueError(f"planes {planes} are 0 to 8, repeats {repeats} and width {width} at least 1")
        self.planes, self.repeats, self.width, self.seed = planes, repeats, width, seed
        self._drawn: tuple[Tensor, Tensor | None] | None = None

    def settings(self) -> dict[str, Any]:
        """The arguments that the index was built with."""
        own = {"planes": self.planes, "repeats": self.repeats, "width": self.width, "seed": self.seed}
        return {name: value for name, value in super().settings().items() if name != "scales"} | own

    def represent(self, part: Segment) -> Tensor:
        """Encodings of rows: means of the vectors in each bucket."""
        made = []
        for rows in torch.arange(len(part)).split(_ROWS):
            lengths = torch.ones(len(rows), dtype=torch.long) if part.lengths is None else part.lengths[rows]
            made.append(self._encoded(part.floats(part.at(rows)), lengths, mean=True))
        return torch.cat(made) if made else torch.zeros(0, 1)

    def represent_queries(self, q: Embedding) -> Tensor:
        """Encodings of queries: sums of the vectors in each bucket."""
        return self._encoded(q.values[q.mask], q.mask.sum(1), mean=False)

    def rescored(self, q: Embedding, queries: Tensor, rows: Tensor) -> Tensor:
        """MaxSim `[P]` of queries with rows, all candidates of a query in a segment at once."""
        segments, scores = self.segments(), torch.empty(len(rows))
        starts = torch.tensor([0, *accumulate(len(part) for part in segments)])
        number = torch.searchsorted(starts, rows, right=True) - 1
        for both in torch.stack([queries, number]).unique(dim=1).T.tolist():
            here, part = ((queries == both[0]) & (number == both[1])).nonzero().flatten(), segments[both[1]]
            inside = rows[here] - starts[both[1]]
            lengths = torch.ones(len(inside), dtype=torch.long) if part.lengths is None else part.lengths[inside]
            tokens = q.values[both[0]][q.mask[both[0]]]
            near = (part.floats(part.at(inside)) @ tokens.T).numpy()  # [sum T, Tq]
            best = np.maximum.reduceat(near, (lengths.cumsum(0) - lengths).numpy(), axis=0)
            scores[here] = torch.from_numpy(best).sum(1)
            self.read += int(lengths.sum())
        return scores

    def _encoded(self, vectors: Tensor, lengths: Tensor, mean: bool) -> Tensor:
        """Encodings `[N, repeats * 2^planes * width]` of rows whose vectors `[sum T, D]` stand one after another."""
        planes, projections = self._random(vectors.shape[1])
        count, buckets = len(lengths), 1 << self.planes
        row = torch.arange(count).repeat_interleave(lengths)
        powers = 1 << torch.arange(self.planes)
        parts = []
        for repeat in range(self.repeats):
            signs = vectors @ planes[repeat] > 0  # [sum T, planes]
            bucket = (signs * powers).sum(1)
            some = vectors if projections is None else vectors @ projections[repeat]
            sums = torch.zeros(count * buckets, some.shape[1]).index_add_(0, row * buckets + bucket, some)
            if mean:
                held = torch.zeros(count * buckets).index_add_(0, row * buckets + bucket, torch.ones(len(row)))
                sums /= held.clamp_min(1)[:, None]
                self._fill(sums.view(count, buckets, -1), held.view(count, buckets), row, bucket, some, lengths)
            parts.append(sums.view(count, -1))
        return torch.cat(parts, 1)

    def _fill(self, sums: Tensor, held: Tensor, row: Tensor, bucket: Tensor, vectors: Tensor, lengths: Tensor) -> None:
        """Give empty buckets of rows the vector whose own bucket differs in the fewest planes."""
        starts = (lengths.cumsum(0) - lengths).numpy()
        for wanted in range(sums.shape[1]):
            empty = held[:, wanted] == 0
            if not bool(empty.any()):
                continue
            differ = np.bitwise_count((bucket ^ wanted).numpy())
            # The least of (planes that differ, place) a row: the place of the first nearest vector.
            place = differ.astype(np.int64) * len(row) + np.arange(len(row))
            nearest = torch.from_numpy(np.minimum.reduceat(place, starts) % len(row))
            sums[empty, wanted] = vectors[nearest[empty]]

    def _random(self, dim: int) -> tuple[Tensor, Tensor | None]:
        """Planes `[repeats, D, planes]` and projections `[repeats, D, width]`, drawn once from the seed."""
        if self._drawn is None:
            generator = torch.Generator().manual_seed(self.seed)
            planes = torch.randn(self.repeats, dim, self.planes, generator=generator)
            projections = None
            if self.width is not None and self.width < dim:
                signs = torch.randint(0, 2, (self.repeats, dim, self.width), generator=generator)
                projections = (signs * 2 - 1).float() / self.width**0.5
            self._drawn = planes, projections
        return self._drawn
