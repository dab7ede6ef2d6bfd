"""Fewer numbers: small ones dropped, and blocks that resemble each other kept once."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from coembed_index.codecs.base import Codec

__all__ = ["Dedup", "Prune"]


class Prune(Codec):
    """The largest numbers of the whole matrix, with their columns: CSR, or COO where a row has under three on average.

    Source: Zhang et al. 2023, Experimental Analysis of Large-scale Learnable Vector Storage Compression (prune).
    """

    method = "prune"

    def fit(self, x: Tensor) -> Self:
        """Keep as many numbers as the budget buys with their indices."""
        allowed, (rows, dim) = self.allowed(x), x.shape
        column = torch.int16 if dim <= 1 << 15 else torch.int32
        width = column.itemsize
        kept = (allowed - 4 * (rows + 1)) // (4 + width)
        coordinates = kept < 3 * rows
        if coordinates:
            kept = allowed // (4 + width + 4)
        if kept < 1:
            raise self.too_small(8 + width)
        flat = x.flatten()
        at = flat.abs().topk(min(kept, x.numel()), sorted=False).indices.sort().values
        row = at // dim
        self.tensors = {"values": flat[at], "columns": (at % dim).to(column)}
        if coordinates:
            self.tensors["rows"] = row.to(torch.int32)
        else:
            self.tensors["ends"] = torch.cat([row.new_zeros(1), row.bincount(minlength=rows).cumsum(0)]).to(torch.int32)
        return self

    def decode(self, ids: Tensor) -> Tensor:
        """The numbers that are left, in their places."""
        columns, values = self.tensors["columns"].long(), self.tensors["values"]
        if "rows" in self.tensors:
            rows = self.tensors["rows"].long().contiguous()
            first, last = torch.searchsorted(rows, ids.contiguous()), torch.searchsorted(rows, ids + 1)
        else:
            first, last = self.tensors["ends"][ids].long(), self.tensors["ends"][ids + 1].long()
        counts = last - first
        target = torch.arange(len(ids)).repeat_interleave(counts)
        source = torch.arange(int(counts.sum())) + (first - (counts.cumsum(0) - counts)).repeat_interleave(counts)
        found = torch.zeros(len(ids), self.shape[1])
        found[target, columns[source]] = values[source]
        return found


class Dedup(Codec):
    """Blocks of `width` columns of a row are kept once where most of their numbers agree, and named by a number.

    Blocks are taken in the order of their 75th percentile, which puts alike ones near each other; in each bucket of a
    hash by random projections the first stands for those of which at least 70 % of the numbers agree with its own
    within a tolerance, and the others go on to the next hash. The tolerance is the smallest that meets the budget.
    Without near-copies among the vectors that tolerance is wide, and little is left of them: this is for copies.
    Source: Zhou et al. 2022, deduplication of models, as compared by Zhang et al. 2023; blocks there span rows too.
    """

    method = "dedup"
    width = 64
    hashes = 8
    agree = 0.7

    def fit(self, x: Tensor) -> Self:
        """Merge blocks until the budget holds."""
        allowed, (rows, dim) = self.allowed(x), x.shape
        width = min(self.width, dim)
        padded = torch.nn.functional.pad(x, (0, -dim % width))
        blocks = padded.reshape(-1, width)
        least = 4 * len(blocks) + 4 * width
        if allowed < least:
            raise self.too_small(least)
        order = torch.quantile(blocks, 0.75, dim=1).argsort(stable=True)
        low, high, best = 0.0, 0.0, None
        for _ in range(40):
            tolerance = (low + high) / 2 if best is not None else high
            kept, number = torch.unique(self._merge(blocks, order, tolerance), return_inverse=True)
            if 4 * (len(blocks) + len(kept) * width) <= allowed:
                best, high = (kept, number), tolerance
            else:
                low = tolerance
                high = high if best is not None else max(2 * high, 1e-4 * float(blocks.abs().max()) + 1e-30)
            if best is not None and high - low <= 0.02 * high:
                break
        assert best is not None, "at a wide enough tolerance one block stands for all"
        kept, number = best
        self.tensors = {"blocks": blocks[kept], "number": number.view(rows, -1).to(torch.int32)}
        return self

    def decode(self, ids: Tensor) -> Tensor:
        """The kept blocks that a row names."""
        return self.tensors["blocks"][self.tensors["number"][ids].long()].flatten(1)[:, : self.shape[1]]

    def _merge(self, blocks: Tensor, order: Tensor, tolerance: float) -> Tensor:
        """For each block the number of the one that stands for it."""
        draw = torch.Generator().manual_seed(self.seed)
        directions = torch.randn(blocks.shape[1], self.hashes, generator=draw)
        # A cell as wide as such blocks lie apart: most of their numbers differ by less than the tolerance.
        cell = max(4 * tolerance * blocks.shape[1] ** 0.5, 1e-12)
        shift = torch.rand(self.hashes, generator=draw) * cell
        keys = ((blocks @ directions + shift) / cell).floor().long()
        names = torch.arange(len(blocks))
        left = order  # blocks not named yet, in their order
        for h in range(self.hashes):
            at = keys[left, h]
            # Of each bucket the first stands for those that agree with it; the others go on to the next hash.
            _, bucket = torch.unique(at, return_inverse=True)
            first = torch.full((int(bucket.max()) + 1,), len(left)).scatter_reduce_(
                0, bucket, torch.arange(len(left)), "amin"
            )
            heads = left[first[bucket]]
            same = ((blocks[left] - blocks[heads]).abs() <= tolerance).float().mean(1) >= self.agree
            names[left[same]] = heads[same]
            left = left[~same | (heads == left)]
        while True:  # a head may have joined another one since
            further = names[names]
            if torch.equal(further, names):
                return names
            names = further
