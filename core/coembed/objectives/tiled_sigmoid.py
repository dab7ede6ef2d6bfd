"""The sum of softplus over all negatives without holding their scores; tiles as in `coembed.objectives.tiled`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from coembed.objectives.tiled import tiles


def negative_sums(
    a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, keys: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Row and column sums of `softplus(scale * a @ b.T + bias)` without the diagonal, memory linear in the rows.

    Arguments and what is left out as in `log_sum_exp`. Returns `[B]` over all columns, extra ones counted twice, and
    `[B]` over all rows, for the first B columns. Gradients are exact for a, b, scale and bias.

    >>> rows, columns = negative_sums(torch.eye(2), torch.eye(2), torch.tensor(1.0), torch.tensor(0.0))
    >>> torch.allclose(rows, torch.tensor(2.0).log()) and torch.equal(rows, columns)
    True
    """
    wide = torch.promote_types(a.dtype, torch.float32)
    rows, columns = _NegativeSums.apply(a.to(wide), b.to(wide), scale.to(wide), bias.to(wide), keys, mask)
    return rows, columns


class _NegativeSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, keys: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        size = len(a)
        rows, columns = a.new_zeros(size), a.new_zeros(size)
        for i, j, scores in tiles(a, b, scale, keys, mask, own=False):
            costs = F.softplus(scores + bias)  # 0 where a score is -inf
            cut = max(0, size - j.start)
            rows[i] += costs[:, :cut].sum(1) + 2 * costs[:, cut:].sum(1)
            columns[j.start : min(j.stop, size)] += costs[:, :cut].sum(0)
        ctx.save_for_backward(a, b, scale, bias, keys, mask)
        return rows, columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, row_grad: Tensor, column_grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, bias, keys, mask = ctx.saved_tensors
        size = len(a)
        a_grad, b_grad = torch.zeros_like(a), torch.zeros_like(b)
        scale_grad, bias_grad = torch.zeros_like(scale), torch.zeros_like(bias)
        for i, j, scores in tiles(a, b, scale, keys, mask, own=False):
            shares = (scores + bias).sigmoid_()
            cut = max(0, size - j.start)
            shares[:, :cut] *= row_grad[i, None] + column_grad[j.start : min(j.stop, size)]
            shares[:, cut:] *= 2 * row_grad[i, None]
            bias_grad += shares.sum()
            scale_grad += (shares * scores.masked_fill_(scores == -torch.inf, 0)).sum() / scale
            a_grad[i].addmm_(shares, b[j], alpha=float(scale))
            b_grad[j].addmm_(shares.T, a[i], alpha=float(scale))
        return a_grad, b_grad, scale_grad, bias_grad, None, None
