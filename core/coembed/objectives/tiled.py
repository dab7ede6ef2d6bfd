"""Log-sum-exp of all pairs without holding them: 2-D tiles forward, the same tiles again backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS, COLUMNS = 512, 1024  # a tile of scores, 2 MB in float32: it stays in a core's cache


def log_sum_exp(
    a: Tensor, b: Tensor, scale: Tensor, keys: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Row and column log-sum-exps of `scale * a @ b.T`, with memory linear in the number of rows.

    `a` is `[B, D]`, `b` `[B + N, D]`, `scale` a scalar. A pair i != j is left out where `keys[i] == keys[j]` (`[B]`,
    for j < B) or `mask[i, j]` (`[B, B + N]`). Returns `[B]` over all columns and `[B]` over all rows, for the
    first B columns. Each tile is computed twice: 8 B² D operations in all, against 6 with the whole matrix in memory.
    Gradients are exact for a, b and scale. Source: the running maximum of Milakov and Gimelshein 2018, Online
    normalizer calculation for softmax; recomputed tiles as in Dao et al. 2022, FlashAttention.

    >>> rows, columns = log_sum_exp(torch.eye(3), torch.eye(3), torch.tensor(1.0))
    >>> torch.allclose(rows, torch.eye(3).logsumexp(1)) and torch.allclose(rows, columns)
    True
    """
    wide = torch.promote_types(a.dtype, torch.float32)  # half is too coarse for an exponential
    rows, columns = _LogSumExp.apply(a.to(wide), b.to(wide), scale.to(wide), keys, mask)
    return rows, columns


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, keys: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        size = len(a)
        low = a.new_full((size,), -torch.inf)
        top, total = [low.clone(), low.clone()], [torch.zeros_like(low), torch.zeros_like(low)]
        for i, j, scores in tiles(a, b, scale, keys, mask):
            _gather(top[0], total[0], i, scores)
            if j.start < size:
                _gather(top[1], total[1], slice(j.start, min(j.stop, size)), scores[:, : size - j.start].T)
        # Nothing is left of a column only where every row of it is masked, which its own pair never is.
        rows, columns = (t + s.log() for t, s in zip(top, total, strict=True))
        ctx.save_for_backward(a, b, scale, keys, mask, rows, columns)
        return rows, columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, row_grad: Tensor, column_grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, keys, mask, rows, columns = ctx.saved_tensors
        size = len(a)
        a_grad, b_grad, scale_grad = torch.zeros_like(a), torch.zeros_like(b), torch.zeros_like(scale)
        for i, j, scores in tiles(a, b, scale, keys, mask):
            shares = (scores - rows[i, None]).exp_().mul_(row_grad[i, None])
            if j.start < size:
                inner = slice(j.start, min(j.stop, size))
                part = scores[:, : size - j.start]
                shares[:, : size - j.start] += (part - columns[inner]).exp_().mul_(column_grad[inner])
            # A pair that is left out has a score of -inf and a share of 0, which must not meet in a product.
            scale_grad += (shares * scores.masked_fill_(scores == -torch.inf, 0)).sum() / scale
            a_grad[i].addmm_(shares, b[j], alpha=float(scale))
            b_grad[j].addmm_(shares.T, a[i], alpha=float(scale))
        return a_grad, b_grad, scale_grad, None, None


def tiles(
    a: Tensor, b: Tensor, scale: Tensor, keys: Tensor | None, mask: Tensor | None, *, own: bool = True
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Every tile's rows, columns and scores, -inf where a pair is left out; a row's own pair stays if `own`."""
    size = len(a)
    for start in range(0, size, ROWS):
        i = slice(start, min(start + ROWS, size))
        scaled = a[i] * scale
        for first in range(0, len(b), COLUMNS):
            j = slice(first, min(first + COLUMNS, len(b)))
            scores = scaled @ b[j].T
            if keys is not None or mask is not None:
                scores.masked_fill_(_left_out(i, j, size, keys, mask, scores), -torch.inf)
            if not own:
                diagonal = _diagonal(i, j, scores)
                scores[diagonal - i.start, diagonal - j.start] = -torch.inf
            yield i, j, scores


def _diagonal(i: slice, j: slice, like: Tensor) -> Tensor:
    """The rows of a tile that meet their own partner in it."""
    first = max(i.start, j.start)
    return torch.arange(first, max(first, min(i.stop, j.stop)), device=like.device)


def _left_out(i: slice, j: slice, size: int, keys: Tensor | None, mask: Tensor | None, like: Tensor) -> Tensor:
    out = torch.zeros_like(like, dtype=torch.bool) if mask is None else mask[i, j].clone()
    if keys is not None and j.start < size:
        out[:, : size - j.start] |= keys[i, None] == keys[None, j.start : min(j.stop, size)]
    own = _diagonal(i, j, like)
    out[own - i.start, own - j.start] = False
    return out


def _gather(top: Tensor, total: Tensor, at: slice, scores: Tensor) -> None:
    """Add a tile's exponentials to the running sums of its rows, in place, relative to the running maxima."""
    before = top[at]
    best = torch.maximum(before, scores.amax(1))
    safe = best.masked_fill(best == -torch.inf, 0)  # a row of which nothing was kept so far
    total[at] = total[at] * (before - safe).exp() + (scores - safe[:, None]).exp_().sum(1)
    top[at] = best
