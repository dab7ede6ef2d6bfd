"""Log-sum-exp of all pairs without holding them: 2-D tiles forward, the same tiles again backward."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from coembed.objectives.pairs import Directions
from coembed.objectives.precision import Precision, Products, matrix_units, wants_bf16
from coembed.objectives.tiles import Buffer, Scores, add_scaled_rows, row_products
from coembed.sharing import ALONE, Share

# Logits within +-BOUND need no maximum: their exponentials, summed or divided by sums, are far from float32's ends.
BOUND = 50.0
TINY = -60.0  # what is that far below a maximum adds nothing to any sum, and as a denormal number would cost 50 times


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of exponentials `total * exp(top)`, one a row or column."""

    top: Tensor
    total: Tensor

    def log(self) -> Tensor:
        """Their logarithms."""
        return self.top + self.total.log()

    def plus(self, more: Tensor) -> Sums:
        """With what logarithms of further sums stand for."""
        top = torch.maximum(self.top, more)
        return Sums(top, (self.top - top).exp_().mul_(self.total) + (more - top).exp_())

    def factors(self, grad: Tensor) -> Tensor:
        """What an exponential relative to `top` is multiplied by to be a share of the gradient."""
        return grad / self.total


def log_sum_exp(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    keys: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    directions: Directions = "both",
    precision: Precision = "fp32",
    share: Share = ALONE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Row and column log-sum-exps of `scale * a @ b.T` and its diagonal, with memory linear in the number of rows.

    `a` is `[B, D]`, `b` `[B + N, D]`, `scale` a positive scalar. A pair i != j is left out where `keys[i] == keys[j]`
    (`[B]`, for j < B) or `mask[i, j]` (`[B, B + N]`). Returns, for the n rows of the share, `[n]` over all columns,
    `[n]` over all rows for the columns of the same numbers, and the `[n]` logits of own pairs; `directions` says which
    of the two sums are needed, the other one is 0. Each tile is computed twice: 8 B² D operations in all, against 6
    with the whole matrix in memory. Where no logit can exceed `BOUND` one exponential serves rows and columns;
    elsewhere each has its running maximum. Gradients are exact for a, b and scale; with "bf16" the products round
    their inputs, sums and own pairs stay in float32. Sources: the running maximum of Milakov and Gimelshein 2018,
    Online normalizer calculation for softmax; recomputed tiles as in Dao et al. 2022, FlashAttention; for contrastive
    losses and over processes Cheng et al. 2024, Breaking the Memory Barrier (Inf-CL).

    >>> rows, columns, own = log_sum_exp(torch.eye(3), torch.eye(3), torch.tensor(1.0))
    >>> torch.allclose(rows, torch.eye(3).logsumexp(1)) and torch.allclose(rows, columns), own
    (True, tensor([1., 1., 1.]))
    """
    wide = torch.promote_types(a.dtype, torch.float32)  # half is too coarse for an exponential
    bf16 = wants_bf16(precision, a)
    rows, columns, own = _LogSumExp.apply(
        a.to(wide), b.to(wide), scale.to(wide), keys, mask, directions, bf16 and wide == torch.float32, share
    )
    return rows, columns, own


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        keys: Tensor | None,
        mask: Tensor | None,
        directions: Directions,
        bf16: bool,
        share: Share,
    ) -> tuple[Tensor, Tensor, Tensor]:
        part = share.part(len(a))
        scores = Scores(a[part], b, float(scale), part.start, len(a), keys, mask, bf16)
        with matrix_units(bf16, a.device):
            own = row_products(a, b[: len(a)]) * scores.scale  # of all rows: no column lacks a maximum to start from
            rows, columns = _sums(scores, own, directions, share)
        kept = torch.zeros_like(own[part])
        ctx.given = (part, directions, bf16, share)
        ctx.save_for_backward(a, b, scale, keys, mask, own, rows.top, rows.total, columns.top, columns.total)
        return (
            kept if directions == "b->a" else rows.log(),
            kept.clone() if directions == "a->b" else columns.log()[part],
            own[part].clone(),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, row_grad: Tensor, column_grad: Tensor, own_grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, keys, mask, own, *sums = ctx.saved_tensors
        part, directions, bf16, share = ctx.given
        scores = Scores(a[part], b, float(scale), part.start, len(a), keys, mask, bf16)
        rows, columns = Sums(*sums[:2]), Sums(*sums[2:])
        wants_a, wants_b, wants_scale = ctx.needs_input_grad[:3]
        a_grad, b_grad = torch.zeros_like(a), torch.zeros_like(b) if wants_b else None
        all_columns = torch.zeros_like(own)  # the tiles of own rows have every column in them
        all_columns[part] = column_grad
        if directions != "a->b":
            all_columns = share.total(all_columns)
        of_rows, of_columns = rows.factors(row_grad), columns.factors(all_columns)
        mine, products = a_grad[part], Products(bf16, a.device)
        with matrix_units(bf16, a.device):
            left, right = products.ready(scores.a), products.ready(b)
            for i, j, shares in _shares(scores, rows, columns, of_rows, of_columns, directions):
                if wants_a or wants_scale:
                    products.add(mine[i], shares, right[j])
                if b_grad is not None:
                    products.add(b_grad[j], shares.T, left[i])
            factors = own_grad.clone()
            if directions != "b->a":
                factors += (own[part] - rows.top).exp_().mul_(of_rows)
            if directions != "a->b":
                factors += (own[part] - columns.top[part]).exp_().mul_(of_columns[part])
            add_scaled_rows(mine, factors, b[part])
            # The sum of all shares times their scores, which are the products that a's gradient is made of.
            scale_grad = row_products(scores.a, mine).sum() if wants_scale else None
            a_grad *= scores.scale
            if b_grad is not None:
                add_scaled_rows(b_grad[part], factors, scores.a)
                b_grad *= scores.scale
        return a_grad, b_grad, scale_grad, None, None, None, None, None


def _sums(scores: Scores, own: Tensor, directions: Directions, share: Share) -> tuple[Sums, Sums]:
    """Over all columns for own rows, over all rows of every process for all partner columns."""
    part = slice(scores.start, scores.start + len(scores.a))
    ones = torch.zeros_like(own)
    ones[part] = 1  # who owns a row brings its own pair into the column's sum
    # Before any choice: processes on unlike machines may choose otherwise, but must reduce alike.
    longest = max(share.maximum(_longest(scores).reshape(1)).item(), 0.0)
    if kernels := _kernels(scores):
        rows, columns = (Sums(own[part], ones[part]), Sums(own, ones))
        rows, columns = (s.plus(more) for s, more in zip((rows, columns), kernels.sums(scores), strict=True))
        return rows, _reduced(columns, directions, share)
    if longest <= BOUND:
        rows, columns = _bounded(scores, own, ones, directions)
    else:
        rows, columns = _running(scores, own, ones, directions)
    return rows, _reduced(columns, directions, share)


def _reduced(columns: Sums, directions: Directions, share: Share) -> Sums:
    """Columns over the rows of every process."""
    if directions == "a->b":
        return columns
    top = share.maximum(columns.top.clone())
    return Sums(top, share.total((columns.top - top).exp_().mul_(columns.total)))


def _kernels(scores: Scores) -> ModuleType | None:
    """The Triton kernels, where there is a GPU, a triton that works on it, and COEMBED_TRITON does not say 0.

    In float32 the products take so long that the device's own ones, which are better, count for more.
    """
    if scores.a.device.type != "cuda" or not scores.bf16 or os.environ.get("COEMBED_TRITON") == "0":
        return None
    from coembed.objectives import kernels

    return kernels.triton_tiles(scores.a.device)


def _longest(scores: Scores) -> Tensor:
    """A bound of every logit, by the lengths of the vectors."""
    lengths = [row_products(x, x).amax() if len(x) else x.new_zeros(()) for x in (scores.a, scores.b)]
    return (lengths[0] * lengths[1]).sqrt() * scores.scale


def _bounded(scores: Scores, own: Tensor, ones: Tensor, directions: Directions) -> tuple[Sums, Sums]:
    part = slice(scores.start, scores.start + len(scores.a))
    alone = own.exp()
    rows, columns = alone[part].clone(), alone * ones
    for i, j, tile in scores.tiles():
        scores.drop(tile.exp_(), i, j, 0.0)
        if directions != "b->a":
            rows[i] += tile.sum(1)
        inner = scores.partners(j)
        if directions != "a->b" and scores.width(j):
            columns[inner] += tile[:, : scores.width(j)].sum(0)
    return Sums(torch.zeros_like(rows), rows), Sums(torch.zeros_like(columns), columns)


def _running(scores: Scores, own: Tensor, ones: Tensor, directions: Directions) -> tuple[Sums, Sums]:
    part = slice(scores.start, scores.start + len(scores.a))
    rows = Sums(own[part].clone(), ones[part].clone())
    columns = Sums(own.clone(), ones)
    buffer = Buffer(own)
    for i, j, tile in scores.tiles():
        scores.drop(tile, i, j, -torch.inf)
        if directions != "b->a":
            _gather(rows, i, tile, buffer, 1)
        inner = scores.partners(j)
        if directions != "a->b" and scores.width(j):
            _gather(columns, inner, tile[:, : scores.width(j)], buffer, 0)
    return rows, columns


def _gather(sums: Sums, at: slice, tile: Tensor, buffer: Buffer, dim: int) -> None:
    """Add a tile's exponentials to the running sums of its rows or columns, relative to the running maxima."""
    before = sums.top[at]
    best = torch.maximum(before, tile.amax(dim))  # finite: it began with the logit of an own pair
    relative = torch.sub(tile, best.unsqueeze(dim), out=buffer.of(*tile.shape))
    sums.total[at] = sums.total[at] * (before - best).exp_() + _exp(relative).sum(dim)
    sums.top[at] = best


def _exp(relative: Tensor) -> Tensor:
    """In place, of logits relative to a maximum."""
    return F.threshold(relative, TINY, -torch.inf, inplace=True).exp_()


def _shares(
    scores: Scores, rows: Sums, columns: Sums, of_rows: Tensor, of_columns: Tensor, directions: Directions
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Every tile's gradient to its logits, own pairs apart: row and column shares of the incoming gradients."""
    if kernels := _kernels(scores):
        yield from kernels.shares(scores, rows.top, of_rows, columns.top, of_columns, directions)
        return
    plain = not (rows.top.any() or columns.top.any())  # the bounded form: one exponential serves both
    buffer = Buffer(of_rows)
    for i, j, tile in scores.tiles():
        inner, width = scores.partners(j), scores.width(j)
        spare = buffer.of(len(tile), width)
        if plain:
            _weigh(tile.exp_(), spare, of_rows[i], of_columns[inner], directions)
        else:
            if directions != "a->b":
                torch.sub(tile[:, :width], columns.top[inner], out=spare)
                _exp(spare).mul_(of_columns[inner])
            if directions == "b->a":
                tile.zero_()
            else:
                _exp(tile.sub_(rows.top[i, None])).mul_(of_rows[i, None])
            if directions != "a->b":
                tile[:, :width].add_(spare)
        yield i, j, scores.drop(tile, i, j, 0.0)


def _weigh(tile: Tensor, spare: Tensor, of_rows: Tensor, of_columns: Tensor, directions: Directions) -> None:
    """Multiply a tile by the sum of its rows' and columns' factors; extra columns have none of their own."""
    width = len(of_columns)
    if directions == "both":
        tile[:, :width].mul_(torch.add(of_rows[:, None], of_columns, out=spare))
        tile[:, width:].mul_(of_rows[:, None])
    elif directions == "a->b":
        tile.mul_(of_rows[:, None])
    else:
        tile[:, :width].mul_(of_columns)
        tile[:, width:].zero_()
