# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# (a kernel's arguments are pointers and numbers of Triton's own language, which has no types for a checker)
"""Triton kernels for the tiles of a softmax loss: scores meet their exponentials before they reach the memory.

Imported only where a GPU and triton are there; `COEMBED_TRITON=0` keeps it off. A forward pass writes, for blocks of
128 x 128 scores, their row and column log-sum-exps and nothing else; a backward pass writes a tile of the gradient to
the scores, which the device's matrix products take further. On a GPU the memory traffic of element-wise steps, not
their arithmetic, is what a loss of plain torch tiles waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from coembed.objectives.precision import Products, tile_shape
from coembed.objectives.tiles import Buffer, Scores

if TYPE_CHECKING:
    from coembed.objectives.pairs import Directions

BLOCK, DEPTH, WARPS, STAGES = 128, 64, 8, 3  # scores a program each way, and how much of the width it takes at once


@triton.jit
def _logits(
    a, b, keys, mask, mask_rows, n, m, first_row, first_column, size,
    row, column, WIDTH: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr,
    KEYS: tl.constexpr, MASK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A block of logits, `-inf` where there is no negative; `row` and `column` count from those of the tile."""
    scores = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, WIDTH, DEPTH):
        at = start + tl.arange(0, DEPTH)
        x = tl.load(
            a + row[:, None].to(tl.int64) * WIDTH + at[None, :], (row[:, None] < n) & (at[None, :] < WIDTH), 0.0
        )
        y = tl.load(
            b + column[:, None].to(tl.int64) * WIDTH + at[None, :], (column[:, None] < m) & (at[None, :] < WIDTH), 0.0
        )
        scores = tl.dot(x, tl.trans(y), scores, input_precision=PRECISION)
    i, j = first_row + row, first_column + column  # among the pairs, and among all columns
    out = (row[:, None] >= n) | (column[None, :] >= m) | (i[:, None] == j[None, :])
    if KEYS:
        mine = tl.load(keys + i, row < n, 0)
        theirs = tl.load(keys + j, (column < m) & (j < size), 0)
        out = out | ((mine[:, None] == theirs[None, :]) & (j[None, :] < size))
    if MASK:
        inside = (row[:, None] < n) & (column[None, :] < m)
        out = out | (tl.load(mask + i[:, None].to(tl.int64) * mask_rows + j[None, :], inside, 0) != 0)
    return tl.where(out, float("-inf"), scores)


@triton.jit
def _sums_kernel(
    a, b, keys, mask, row_sums, column_sums, mask_rows, n, m, first_row, first_column, size,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr,
    KEYS: tl.constexpr, MASK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Log-sum-exps of the rows of a block `[blocks of columns, n]`, and of its columns `[blocks of rows, m]`."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    logits = _logits(
        a, b, keys, mask, mask_rows, n, m, first_row, first_column, size,
        row, column, WIDTH, BLOCK, DEPTH, KEYS, MASK, PRECISION,
    )  # fmt: skip
    top = tl.max(logits, 1)
    top = tl.where(top == float("-inf"), 0.0, top)
    total = tl.sum(tl.exp(logits - top[:, None]), 1)
    tl.store(row_sums + tl.program_id(1).to(tl.int64) * n + row, top + tl.log(total), row < n)
    top = tl.max(logits, 0)
    top = tl.where(top == float("-inf"), 0.0, top)
    total = tl.sum(tl.exp(logits - top[None, :]), 0)
    tl.store(column_sums + tl.program_id(0).to(tl.int64) * m + column, top + tl.log(total), column < m)


@triton.jit
def _shares_kernel(
    a, b, keys, mask, out, row_top, row_factor, column_top, column_factor, mask_rows, n, m, first_row, first_column,
    size, WIDTH: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr,
    KEYS: tl.constexpr, MASK: tl.constexpr, PRECISION: tl.constexpr, FORTH: tl.constexpr, BACK: tl.constexpr,
):  # fmt: skip
    """The gradient to a block of logits: row and column shares of the incoming gradients, `[n, m]`."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    logits = _logits(
        a, b, keys, mask, mask_rows, n, m, first_row, first_column, size,
        row, column, WIDTH, BLOCK, DEPTH, KEYS, MASK, PRECISION,
    )  # fmt: skip
    shares = tl.zeros((BLOCK, BLOCK), tl.float32)
    if FORTH:
        top, factor = tl.load(row_top + row, row < n, 0.0), tl.load(row_factor + row, row < n, 0.0)
        shares += tl.exp(logits - top[:, None]) * factor[:, None]
    if BACK:
        partner = (column < m) & (first_column + column < size)
        top, factor = tl.load(column_top + column, partner, 0.0), tl.load(column_factor + column, partner, 0.0)
        # An extra negative has no top of its own, and its exponential might be infinite: 0 times that is no number.
        shares += tl.where(partner[None, :], tl.exp(logits - top[None, :]) * factor[None, :], 0.0)
    inside = (row[:, None] < n) & (column[None, :] < m)
    tl.store(out + row[:, None].to(tl.int64) * m + column[None, :], shares.to(out.dtype.element_ty), inside)


class _Launch:
    """The arguments that both kernels share."""

    def __init__(self, scores: Scores) -> None:
        products = Products(scores.bf16, scores.a.device)
        self.scores = scores
        self.a, self.b = (products.ready(x).contiguous() for x in (scores.a * scores.scale, scores.b))
        none = scores.a.new_empty(1, dtype=torch.uint8)
        self.keys = none if scores.keys is None else scores.keys.contiguous()
        self.mask = none if scores.mask is None else scores.mask.contiguous().view(torch.uint8)
        self.options = {
            "WIDTH": scores.a.shape[1],
            "BLOCK": BLOCK,
            "DEPTH": DEPTH,
            "KEYS": scores.keys is not None,
            "MASK": scores.mask is not None,
            "PRECISION": "ieee",  # of float32 inputs; bf16 ones are multiplied as they are
            "num_warps": WARPS,
            "num_stages": STAGES,
        }

    def run(self, kernel: Any, i: slice, j: slice, *given: Tensor, **options: bool) -> None:
        """Launch a kernel over rows i and columns j."""
        n, m, scores = i.stop - i.start, j.stop - j.start, self.scores
        place = (scores.b.shape[0], n, m, scores.start + i.start, j.start, scores.size)
        tensors = (self.a[i], self.b[j], self.keys, self.mask, *given)
        with torch.cuda.device_of(scores.a):  # triton launches on the current device, wherever the tensors are
            kernel[blocks(n), blocks(m)](*tensors, *place, **self.options, **options)


def blocks(count: int) -> int:
    """How many blocks cover so many rows."""
    return -(-count // BLOCK)


def sums(scores: Scores) -> tuple[Tensor, Tensor]:
    """Log-sum-exps of the negatives of own rows `[n]`, and of all partner columns over own rows `[size]`."""
    launch, (height, _) = _Launch(scores), tile_shape(scores.a.device)
    rows, columns = scores.a.new_empty(len(scores.a)), scores.a.new_full((scores.size,), -torch.inf)
    every = slice(0, len(scores.b))
    for i, _ in scores.places(height, len(scores.b)):
        n = i.stop - i.start
        of_rows = scores.a.new_empty(blocks(len(scores.b)), n)
        of_columns = scores.a.new_empty(blocks(n), len(scores.b))
        launch.run(_sums_kernel, i, every, of_rows, of_columns)
        rows[i] = of_rows.logsumexp(0)
        columns = torch.logaddexp(columns, of_columns[:, : scores.size].logsumexp(0))
    return rows, columns


def shares(
    scores: Scores, row_top: Tensor, of_rows: Tensor, column_top: Tensor, of_columns: Tensor, directions: Directions
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Every tile's gradient to its logits, own pairs apart; the buffer is used again."""
    launch = _Launch(scores)
    buffer = Buffer(launch.a if scores.bf16 else scores.a)
    ways = {"FORTH": directions != "b->a", "BACK": directions != "a->b"}
    for i, j in scores.places(*tile_shape(scores.a.device)):
        inner = scores.partners(j)
        tile = buffer.of(i.stop - i.start, j.stop - j.start)
        given = (row_top[i], of_rows[i], column_top[inner], of_columns[inner])
        launch.run(_shares_kernel, i, j, tile, *given, **ways)
        yield i, j, tile
