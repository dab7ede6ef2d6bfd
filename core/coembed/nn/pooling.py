"""Pooling: the tokens of each item to one vector, `Embedding` in, `Embedding` with T = 1 out.

Masked tokens never count, whatever they hold. A row without real tokens comes out as zeros, masked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.nn.seeding import seeded

__all__ = ["POOLINGS", "Attention", "First", "Last", "Max", "Mean", "WeightedMean"]


def _clean(x: Embedding) -> Tensor:
    return x.values.masked_fill(~x.mask[..., None], 0.0)  # not times 0: padding may hold NaN


def _one(x: Embedding, vectors: Tensor) -> Embedding:
    """One vector a row, in place of the tokens of `x`."""
    return replace(x, values=vectors[:, None], mask=x.present[:, None])


class Mean(nn.Module):
    """Take the mean of the real tokens.

    >>> Mean()(Embedding(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[True, True]]))).vectors
    tensor([[2.]])
    """

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, D] to [B, 1, D]."""
        return x.pool("mean")


class First(nn.Module):
    """Take the first real token: the class token of most encoders.

    >>> First()(Embedding(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[False, True]]))).vectors
    tensor([[3.]])
    """

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, D] to [B, 1, D]."""
        return x.pool("first")


class Last(nn.Module):
    """Take the last real token, wherever the padding is: the choice for causal encoders.

    >>> Last()(Embedding(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[True, False]]))).vectors
    tensor([[1.]])
    """

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, D] to [B, 1, D]."""
        return x.pool("last")


class Max(nn.Module):
    """Take the maximum of each dimension over the real tokens.

    >>> Max()(Embedding(torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]), torch.tensor([[True, True]]))).vectors
    tensor([[1., 2.]])
    """

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, D] to [B, 1, D]."""
        if x.values.shape[1] == 0:
            return x.pool("mean")
        lowest = torch.finfo(x.values.dtype).min
        best = x.values.masked_fill(~x.mask[..., None], lowest).amax(1)
        return _one(x, best.masked_fill(~x.present[:, None], 0.0))


class WeightedMean(nn.Module):
    """Take a mean that weighs the i-th real token by i: late tokens of a causal encoder have seen more.

    Source: Muennighoff 2022, SGPT, eq. 2.

    >>> WeightedMean()(Embedding(torch.tensor([[[1.0], [4.0]]]), torch.tensor([[True, True]]))).vectors
    tensor([[3.]])
    """

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, D] to [B, 1, D]."""
        weights = (x.mask.cumsum(1) * x.mask).to(x.values.dtype)
        weights = weights / weights.sum(1, keepdim=True).clamp_min(1.0)
        return _one(x, torch.einsum("bt,btd->bd", weights, _clean(x)))


class Attention(nn.Module):
    """Take a mean whose weights a learned query chooses: softmax over tokens of query · token / sqrt(D).

    The query starts from `seed`; a zero query would be the plain mean. Source: Yang et al. 2016, Hierarchical
    Attention Networks, eq. 6-7, without its hidden layer.

    >>> Attention(2, seed=0)(Embedding(torch.ones(1, 3, 2), torch.ones(1, 3, dtype=torch.bool))).vectors
    tensor([[1., 1.]], grad_fn=<SelectBackward0>)
    """

    def __init__(self, dim: int, *, seed: int | None = None) -> None:
        super().__init__()
        with seeded(seed):
            self.query = nn.Parameter(torch.randn(dim))

    def weights(self, x: Embedding) -> Tensor:
        """Return the weights [B, T]: they sum to 1 over the real tokens and are 0 elsewhere."""
        scores = _clean(x) @ self.query / len(self.query) ** 0.5
        # the lowest finite number, not -inf: softmax would make NaN of a row without tokens
        weights = scores.masked_fill(~x.mask, torch.finfo(scores.dtype).min).softmax(1)
        return torch.where(x.mask, weights, 0.0)

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, D] to [B, 1, D]."""
        return _one(x, torch.einsum("bt,btd->bd", self.weights(x), _clean(x)))


#: name -> what builds that pooling for tokens of width `dim`
POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "mean": lambda dim: Mean(),
    "first": lambda dim: First(),
    "last": lambda dim: Last(),
    "max": lambda dim: Max(),
    "weighted_mean": lambda dim: WeightedMean(),
    "attention": Attention,
}
