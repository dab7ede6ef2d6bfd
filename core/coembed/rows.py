"""Features by row: what the trainer gathers batches from, whether they are in memory or in maps of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.shards import Shard, vectors_at


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of mapped shards as if they were one Embedding: `rows[at]` reads these rows and no others.

    Row i is row `row[i]` of shard `shard[i]`. `dtype` is that of the values that come out (None: as they are stored),
    `dim` their width.

    >>> import numpy as np
    >>> shard = Shard.of(np.zeros((2, 16), np.uint8), Embedding.from_vectors(torch.eye(2)))
    >>> Rows((shard,), torch.zeros(3, dtype=torch.int64), torch.tensor([1, 0, 1]), 2)[[0, 1]].vectors
    tensor([[0., 1.],
            [1., 0.]])
    """

    shards: Sequence[Shard]
    shard: Tensor
    row: Tensor
    dim: int
    dtype: torch.dtype | None = None

    def __len__(self) -> int:
        return len(self.row)

    @property
    def single(self) -> bool:
        """Whether every row is one vector (T = 1)."""
        return all(shard.ends is None for shard in self.shards)

    def __getitem__(self, rows: slice | Tensor | Sequence[int]) -> Embedding:
        if isinstance(rows, slice):
            shard, row = self.shard[rows], self.row[rows]
        else:
            at = rows if isinstance(rows, Tensor) else torch.tensor(rows, dtype=torch.int64)
            shard, row = self.shard[at], self.row[at]
        dtype = self.dtype or (self.shards[0].values.dtype if self.shards else torch.float32)
        parts = [(self.shards[number], where) for number, where in _groups(shard)]
        if self.single:
            vectors = torch.empty(len(row), self.dim, dtype=dtype)
            for part, where in parts:
                vectors[where] = part.values[row[where]].to(dtype)
            return Embedding.from_vectors(vectors)
        return _ragged(parts, row, self.dim, dtype)

    def resident(self, device: torch.device, share: float = 0.5) -> Rows | Embedding:
        """All rows on a GPU if they are single vectors and fit into a `share` of its free memory; else these."""
        if device.type != "cuda" or not self.single or not len(self):
            return self
        dtype = self.shards[0].values.dtype
        free, _ = torch.cuda.mem_get_info(device)
        if len(self) * self.dim * dtype.itemsize > share * free:
            return self
        vectors = torch.empty(len(self), self.dim, dtype=self.dtype or dtype, device=device)
        for start in range(0, len(self), 1 << 16):
            vectors[start : start + (1 << 16)] = self[start : start + (1 << 16)].vectors.to(device)
        return Embedding.from_vectors(vectors)


@dataclass(frozen=True, eq=False)
class Cached:
    """A frozen tower's features for the records of a task: record i has row `places[i]` of `rows`, -1 for none."""

    places: Tensor
    rows: Rows | Embedding

    def take(self, records: Tensor) -> Embedding:
        """The features of records by position."""
        at = self.places[records]
        return self.rows[at.to(self.rows.values.device)] if isinstance(self.rows, Embedding) else self.rows[at]


def _groups(shard: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Every shard that occurs, and where."""
    if not len(shard):
        return
    order = shard.argsort(stable=True)
    numbers, counts = shard[order].unique_consecutive(return_counts=True)
    yield from zip(numbers.tolist(), order.split(counts.tolist()), strict=True)


def _ragged(parts: list[tuple[Shard, Tensor]], row: Tensor, dim: int, dtype: torch.dtype) -> Embedding:
    spans = [(part, where, *part.spans(row[where])) for part, where in parts]
    longest = max((int(counts.max()) for *_, counts in spans), default=1)
    values = torch.zeros(len(row), max(1, longest), dim, dtype=dtype)
    mask = torch.zeros(values.shape[:2], dtype=torch.bool)
    for part, where, starts, counts in spans:
        to = torch.repeat_interleave(where, counts), vectors_at(torch.zeros_like(counts), counts)
        values[to] = part.values[vectors_at(starts, counts)].to(dtype)
        mask[to] = True
    return Embedding(values, mask)
