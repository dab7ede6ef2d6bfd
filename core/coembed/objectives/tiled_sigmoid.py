"""The sum of softplus over all negatives without holding their scores; tiles as in `coembed.objectives.tiled`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from coembed.objectives.precision import Precision, Products, matrix_units, wants_bf16
from coembed.objectives.tiles import Scores, add_scaled_rows, row_products
from coembed.sharing import ALONE, Share


def negative_sums(
    a: Tensor,
    b: Tensor,
    scale: Tensor,
    bias: Tensor,
    keys: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    precision: Precision = "fp32",
    share: Share = ALONE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Row and column sums of `softplus(scale * a @ b.T + bias)` without the diagonal, and the diagonal's scores.

    Arguments and what is left out as in `log_sum_exp`. Returns, for the n rows of the share, `[n]` over all columns,
    extra ones counted twice, `[n]` over all rows for the columns of the same numbers, and the `[n]` products
    `scale * a_i b_i` without the bias. Memory is linear in the rows; gradients are exact for a, b, scale and bias.

    >>> rows, columns, own = negative_sums(torch.eye(2), torch.eye(2), torch.tensor(1.0), torch.tensor(0.0))
    >>> torch.allclose(rows, torch.tensor(2.0).log()) and torch.equal(rows, columns), own
    (True, tensor([1., 1.]))
    """
    wide = torch.promote_types(a.dtype, torch.float32)
    bf16 = wants_bf16(precision, a) and wide == torch.float32
    rows, columns, own = _NegativeSums.apply(
        a.to(wide), b.to(wide), scale.to(wide), bias.to(wide), keys, mask, bf16, share
    )
    return rows, columns, own


class _NegativeSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        bias: Tensor,
        keys: Tensor | None,
        mask: Tensor | None,
        bf16: bool,
        share: Share,
    ) -> tuple[Tensor, Tensor, Tensor]:
        part, shift = share.part(len(a)), float(bias)
        scores = Scores(a[part], b, float(scale), part.start, len(a), keys, mask, bf16)
        rows, columns = torch.zeros_like(a[part, 0]), a.new_zeros(len(a))
        with matrix_units(bf16, a.device):
            for i, j, tile in scores.tiles():
                costs = scores.drop(F.softplus(tile.add_(shift)), i, j, 0.0)
                inner, width = scores.partners(j), scores.width(j)
                rows[i] += costs[:, :width].sum(1) + 2 * costs[:, width:].sum(1)
                columns[inner] += costs[:, :width].sum(0)
            own = row_products(a[part], b[part]) * scores.scale
        ctx.given = (part, bf16, share)
        ctx.save_for_backward(a, b, scale, bias, keys, mask)
        return rows, share.total(columns)[part].clone(), own

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, row_grad: Tensor, column_grad: Tensor, own_grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, bias, keys, mask = ctx.saved_tensors
        part, bf16, share = ctx.given
        scores, shift = Scores(a[part], b, float(scale), part.start, len(a), keys, mask, bf16), float(bias)
        wants_a, wants_b, wants_scale = ctx.needs_input_grad[:3]
        a_grad, b_grad = torch.zeros_like(a), torch.zeros_like(b) if wants_b else None
        bias_grad = torch.zeros_like(bias)
        all_columns = a.new_zeros(len(a))  # the tiles of own rows have every column in them
        all_columns[part] = column_grad
        all_columns = share.total(all_columns)
        mine, products = a_grad[part], Products(bf16, a.device)
        with matrix_units(bf16, a.device):
            left, right = products.ready(scores.a), products.ready(b)
            for i, j, tile in scores.tiles():
                shares = scores.drop(tile.add_(shift).sigmoid_(), i, j, 0.0)
                inner, width = scores.partners(j), scores.width(j)
                shares[:, :width] *= row_grad[i, None] + all_columns[inner]
                shares[:, width:] *= 2 * row_grad[i, None]
                bias_grad += shares.sum()
                if wants_a or wants_scale:
                    products.add(mine[i], shares, right[j])
                if b_grad is not None:
                    products.add(b_grad[j], shares.T, left[i])
            add_scaled_rows(mine, own_grad, b[part])
            # The sum of all shares times their scores, which are the products that a's gradient is made of.
            scale_grad = row_products(scores.a, mine).sum() if wants_scale else None
            a_grad *= scores.scale
            if b_grad is not None:
                add_scaled_rows(b_grad[part], own_grad, scores.a)
                b_grad *= scores.scale
        return a_grad, b_grad, scale_grad, bias_grad, None, None, None, None
