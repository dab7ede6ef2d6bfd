"""Sequences longer than a model: cut into windows, never cut off.

A row of tokens is cut into as few windows as fit, of lengths that differ by one at most. Each is read by itself, and
the token features of all are laid end to end: pooled by the mean, a long sequence is the mean of its windows, each
counted by its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from coembed.embedding import Embedding

__all__ = ["BothStrands", "batch_windows", "lay_out", "windows"]


def windows(row: Sequence[int], size: int) -> list[list[int]]:
    """Cut a row into windows of at most `size`, as even as can be.

    >>> windows([1, 2, 3, 4, 5, 6, 7], 3)
    [[1, 2, 3], [4, 5], [6, 7]]
    """
    count = max(1, -(-len(row) // size))
    short, longer = divmod(len(row), count)
    ends = [0]
    for place in range(count):
        ends.append(ends[-1] + short + (place < longer))
    return [list(row[a:b]) for a, b in pairwise(ends)]


def batch_windows(rows: Sequence[Sequence[Sequence[Sequence[int]]]], pad: int) -> tuple[Tensor, Tensor]:
    """Lay windows, by item and strand, out as ids [B, S, W, T] int64 and their mask, padded with `pad`.

    >>> ids, mask = batch_windows([[[[5, 6], [7]]], [[[8]]]], pad=0)
    >>> ids.tolist(), mask.sum().item()
    ([[[[5, 6], [7, 0]]], [[[8, 0], [0, 0]]]], 4)
    """
    strands = max((len(item) for item in rows), default=1)
    most = max((len(strand) for item in rows for strand in item), default=1)
    longest = max((len(window) for item in rows for strand in item for window in strand), default=0)
    ids = torch.full((len(rows), strands, most, longest), pad, dtype=torch.long)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for b, item in enumerate(rows):
        for s, strand in enumerate(item):
            for w, window in enumerate(strand):
                ids[b, s, w, : len(window)] = torch.tensor(window, dtype=torch.long)
                mask[b, s, w, : len(window)] = True
    return ids, mask


def lay_out(mask: Tensor, keep: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Put the features of a batch's real windows, `mask.any(-1)`, end to end.

    `mask` and `keep` are [B, S, W, T] bool: the tokens there are, and those whose features are kept; `found` is
    [n, T, D]. Returns values [B, W * T * S, D] and mask [B, W * T * S]; with two strands their tokens take turns, so
    that padding at the end mixes nothing up.

    >>> mask = torch.tensor([[[[True, True], [True, False]]]])
    >>> lay_out(mask, mask, torch.tensor([[[1.0], [2.0]], [[3.0], [0.0]]]))[0].flatten().tolist()
    [1.0, 2.0, 3.0, 0.0]
    """
    values = found.new_zeros(*mask.shape, found.shape[-1])
    values[mask.any(-1)] = found
    count = len(mask)
    return (
        values.flatten(2, 3).transpose(1, 2).reshape(count, -1, found.shape[-1]),
        keep.flatten(2, 3).transpose(1, 2).reshape(count, -1),
    )


class BothStrands(torch.nn.Module):
    """Pool each strand by itself, then take the mean: the strands may differ in tokens, but count alike."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Embedding) -> Embedding:
        """[B, T * 2, D], the strands' tokens in turns, to [B, 1, D]."""
        one, other = (self.inner(Embedding(x.values[:, s::2], x.mask[:, s::2], x.sizes)) for s in (0, 1))
        return Embedding((one.values + other.values) / 2, one.mask, x.sizes)
