"""The scores of a batch, tile by tile: what every loss that never holds `B x B` walks over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from coembed.objectives.precision import Products, tile_shape

CHUNK = 4096  # rows of a product that is taken element by element


@dataclass(frozen=True, eq=False)
class Scores:
    """The logits `scale * a @ b.T` of some rows against all columns, of which a tile at a time exists.

    `a` is `[n, D]`, the rows `start` to `start + n` of `size` pairs; `b` `[size + N, D]`, their partners first; `keys`
    `[size]` and `mask` `[size, size + N]` as for an objective. Pairs of a row and its own partner are not in the
    tiles: they are few and much of a gradient hangs on them, so that losses take them apart, in full precision.
    """

    a: Tensor
    b: Tensor
    scale: float
    start: int
    size: int
    keys: Tensor | None
    mask: Tensor | None
    bf16: bool

    def tiles(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows (counted from the first own one), columns and logits of every tile; the buffer is used again."""
        products, buffer = Products(self.bf16, self.a.device), Buffer(self.a)
        columns = products.ready(self.b)
        for i, j in self.places(*tile_shape(self.a.device)):
            if j.start == 0:
                rows = products.ready(self.a[i] * self.scale)
            yield i, j, products.into(buffer.of(i.stop - i.start, j.stop - j.start), rows, columns[j].T)

    def places(self, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of tiles of that shape, all columns of a row first."""
        for top in range(0, len(self.a), rows):
            for left in range(0, len(self.b), columns):
                yield slice(top, min(top + rows, len(self.a))), slice(left, min(left + columns, len(self.b)))

    def partners(self, j: slice) -> slice:
        """Those of some columns that are partners, none of the extra negatives."""
        return slice(min(j.start, self.size), min(j.stop, self.size))

    def width(self, j: slice) -> int:
        """How many of some columns are partners."""
        return max(0, int(min(j.stop, self.size) - j.start))

    def drop(self, tile: Tensor, i: slice, j: slice, value: float) -> Tensor:
        """Put a value where a tile has no negative: own partners, equal keys, masked; in place."""
        first, inner = self.start + i.start, self.partners(j)
        if self.mask is not None:
            tile.masked_fill_(self.mask[first : first + len(tile), j], value)
        if self.keys is not None and self.width(j):
            alike = self.keys[first : first + len(tile), None] == self.keys[inner]
            tile[:, : self.width(j)].masked_fill_(alike, value)
        if -len(tile) < first - j.start < tile.shape[1]:
            tile.diagonal(first - j.start).fill_(value)
        return tile


class Buffer:
    """Room for tiles, taken once: fresh memory would cost a page fault every 4 KB.

    >>> buffer = Buffer(torch.zeros(1))
    >>> buffer.of(3, 4).shape, buffer.of(2, 4).shape
    (torch.Size([3, 4]), torch.Size([2, 4]))
    """

    def __init__(self, like: Tensor) -> None:
        self.room = like.new_empty(0)

    def of(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` of anything; what was given before is overwritten."""
        if self.room.numel() < rows * columns:
            self.room = self.room.new_empty(rows * columns)
        return self.room[: rows * columns].view(rows, columns)


def row_products(x: Tensor, y: Tensor) -> Tensor:
    """`[n]` products of each row of x with the same row of y, without a copy of their size.

    >>> row_products(torch.eye(2), torch.ones(2, 2))
    tensor([1., 1.])
    """
    parts = [(x[i : i + CHUNK] * y[i : i + CHUNK]).sum(1) for i in range(0, len(x), CHUNK)]
    return torch.cat(parts) if parts else x.new_zeros(0)


def add_scaled_rows(out: Tensor, factors: Tensor, x: Tensor) -> None:
    """`out += factors[:, None] * x`, in place and without a copy of their size.

    >>> out = torch.zeros(2, 2)
    >>> add_scaled_rows(out, torch.tensor([1.0, 2.0]), torch.ones(2, 2))
    >>> out
    tensor([[1., 1.],
            [2., 2.]])
    """
    for i in range(0, len(x), CHUNK):
        out[i : i + CHUNK].addcmul_(factors[i : i + CHUNK, None], x[i : i + CHUNK])
