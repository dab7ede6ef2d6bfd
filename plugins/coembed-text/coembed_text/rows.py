"""Token features that are rows of a table: their mean is taken where they lie, without laying them out first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from coembed.embedding import Embedding

_RUN = 128  # rows that are added one after another; sums of more would lose digits, and go in two steps


class TableRows(Embedding):
    """Rows of `table` `[V, D]` by their numbers `ids` `[B, T]`, of which `real` `[B, T]` are tokens.

    `values` are looked up once they are asked for. `pool("mean")` needs none of them: it reads each row once, adds them
    in their order and so gives an item the same bits whatever stands beside it. An item without tokens has one token
    of zeros.

    >>> x = TableRows.of(torch.eye(3), torch.tensor([[0, 1], [0, 0]]), torch.tensor([[True, True], [False, False]]))
    >>> x.pool().vectors.tolist(), x.values.shape
    ([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]], torch.Size([2, 2, 3]))
    """

    table: Tensor
    ids: Tensor
    real: Tensor

    def __new__(  # type: ignore[misc]
        cls, values: Tensor, mask: Tensor, sizes: tuple[int, ...] = (), layers: tuple[int, ...] = ()
    ) -> Embedding:
        """A plain Embedding: what `dataclasses.replace` makes of token features has values of its own."""
        return Embedding(values, mask, sizes, layers)

    def __reduce__(self) -> tuple[object, ...]:
        return TableRows.of, (self.table, self.ids, self.real, self.sizes)

    @classmethod
    def of(cls, table: Tensor, ids: Tensor, real: Tensor, sizes: tuple[int, ...] = ()) -> TableRows:
        """Token features not looked up yet; T must be at least 1."""
        made = object.__new__(cls)  # an Embedding is made of its values, which are not there
        first = torch.arange(real.shape[1], device=real.device) == 0
        mask = real | (first & ~real.any(1, keepdim=True))
        for name, value in (("table", table), ("ids", ids), ("real", real), ("mask", mask), ("sizes", sizes)):
            object.__setattr__(made, name, value)
        object.__setattr__(made, "layers", ())
        return made

    @property
    def values(self) -> Tensor:
        """The rows `[B, T, D]`, zeros where there is no token."""
        found: Tensor | None = self.__dict__.get("_values")
        if found is None:
            found = F.embedding(self.ids, self.table).masked_fill(~self.real[..., None], 0)
            object.__setattr__(self, "_values", found)
        return found

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, rows: slice | Tensor | Sequence[int]) -> Embedding:
        return TableRows.of(self.table, self.ids[rows], self.real[rows], self.sizes)

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self.table.shape[1]

    @property
    def single(self) -> bool:
        """Whether every row is one vector (T = 1)."""
        return self.mask.shape[1] == 1

    def pool(self, how: str = "mean") -> Embedding:
        """See `Embedding.pool`."""
        if how != "mean" or self.table.dtype in (torch.float16, torch.bfloat16):  # whose sums are too coarse
            return Embedding(self.values, self.mask, self.sizes).pool(how)
        counts = self.real.sum(1)
        first = counts.cumsum(0) - counts
        ids = self.ids[self.real]
        if self.ids.shape[1] <= _RUN:
            sums = F.embedding_bag(ids, self.table, first, mode="sum")
        else:
            runs = (-(-counts // _RUN)).clamp_min(1)  # of a text's own tokens: where they end depends on nothing else
            start = runs.cumsum(0) - runs
            number = torch.arange(int(runs.sum()), device=ids.device) - start.repeat_interleave(runs)
            parts = F.embedding_bag(ids, self.table, first.repeat_interleave(runs) + _RUN * number, mode="sum")
            sums = F.embedding_bag(torch.arange(len(parts), device=ids.device), parts, start, mode="sum")
        vectors = sums / counts.clamp_min(1)[:, None]
        return Embedding(vectors[:, None], torch.ones_like(self.mask[:, :1]), self.sizes)
