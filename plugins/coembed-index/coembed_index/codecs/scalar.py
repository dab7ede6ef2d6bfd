"""Numbers rounded to eight or sixteen bits; and rows that share a bucket, the control."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from coembed_index.codecs.base import Codec

__all__ = ["Hashed", "Int8", "Int16", "bucket"]

_PRIME = (1 << 31) - 1


class _Rounded(Codec):
    """Integers, and a step for each row, so that one long row does not make the others coarse."""

    dtype: ClassVar[torch.dtype]

    def fit(self, x: Tensor) -> Self:
        """Round the rows."""
        allowed, most = self.allowed(x), torch.iinfo(self.dtype)
        least = x.numel() * most.bits // 8 + 4 * len(x)
        if allowed < least:
            raise self.too_small(least)
        self.shape = (0, x.shape[1])
        self.tensors = {"code": torch.empty(0, x.shape[1], dtype=self.dtype), "step": torch.empty(0)}
        self.encode(x)
        return self

    def encode(self, x: Tensor) -> None:
        """Round further rows."""
        top = torch.iinfo(self.dtype).max
        step = (x.abs().amax(1) / top).clamp_min(1e-30)
        code = (x / step[:, None]).round().clamp(-top, top).to(self.dtype)
        self.tensors = {
            "code": torch.cat([self.tensors["code"], code]),
            "step": torch.cat([self.tensors["step"], step]),
        }
        self.shape = (self.shape[0] + len(x), self.shape[1])

    def decode(self, ids: Tensor) -> Tensor:
        """Integers times their row's step."""
        return self.tensors["code"][ids].float() * self.tensors["step"][ids, None]


class Int8(_Rounded):
    """Eight bits a number: a quarter of the bytes, whatever smaller share is allowed."""

    method = "int8"
    dtype = torch.int8


class Int16(_Rounded):
    """Sixteen bits a number: half of the bytes."""

    method = "int16"
    dtype = torch.int16


class Hashed(Codec):
    """Rows share the mean of their bucket, as many buckets as the budget buys. The control: nothing is learned."""

    method = "hash"

    def fit(self, x: Tensor) -> Self:
        """Mean rows of buckets."""
        buckets = (self.allowed(x) - 8) // (4 * x.shape[1])
        if buckets < 1:
            raise self.too_small(4 * x.shape[1] + 8)
        at = bucket(torch.arange(len(x)), buckets, self.seed)
        sums = torch.zeros(buckets, x.shape[1]).index_add_(0, at, x)
        sizes = torch.bincount(at, minlength=buckets).clamp_min(1)
        self.tensors = {"table": sizes.reciprocal()[:, None] * sums, "seed": torch.tensor([self.seed])}
        return self

    def decode(self, ids: Tensor) -> Tensor:
        """The rows' buckets."""
        table = self.tensors["table"]
        return table[bucket(ids, len(table), int(self.tensors["seed"]))]


def bucket(ids: Tensor, buckets: int, seed: int) -> Tensor:
    """A bucket for each number, the same in every process: ((a n + b) mod p) mod buckets, a and b drawn by `seed`.

    Raises ValueError for numbers below 0 or beyond 2^31 - 2.
    Source: Carter and Wegman 1979, universal classes of hash functions.

    >>> bucket(torch.arange(4), 2, seed=0).tolist() == bucket(torch.arange(4), 2, seed=0).tolist()
    True
    """
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < _PRIME:
        raise ValueError(f"hashed numbers lie in 0 .. {_PRIME - 1}, got {int(ids.min())} .. {int(ids.max())}")
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randint(1, _PRIME, (2,), generator=draw).tolist()
    return (a * ids.long() + b) % _PRIME % buckets  # below 2^62: no overflow
