"""Packed batches: short sequences side by side in one row, so that no work goes into padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Packed", "pack"]


@dataclass(frozen=True)
class Packed:
    """A packed batch: feed `values`, `mask` and `segments` to a `Transformer`, then `unpack` what it returns.

    `values` [R, N, D], `mask` [R, N] bool, `segments` [R, N] int64 (0 is padding). R rows of capacity N hold the
    sequences of the padded batch [B, T].
    """

    values: Tensor
    mask: Tensor
    segments: Tensor
    source: Tensor  # [B, T] bool: the mask of the padded batch
    slots: Tensor  # [tokens] int64: where in the R * N slots each real token lies, in the order of x[mask]

    def unpack(self, values: Tensor) -> Tensor:
        """Lay the output [R, N, D'] of a packed batch out as the padded batch was: [B, T, D'], zeros at padding."""
        out = values.new_zeros(*self.source.shape, values.shape[-1])
        out[self.source] = values.flatten(0, 1)[self.slots]
        return out


def pack(x: Tensor, mask: Tensor, capacity: int | None = None) -> Packed:
    """Lay the real tokens of `x` [B, T, D] side by side in rows of `capacity` tokens, longest sequence first.

    First-fit decreasing: each sequence goes to the first row with room. `capacity` defaults to the longest sequence.
    ValueError when a sequence is longer than `capacity`.

    >>> x, mask = torch.ones(3, 4, 2), torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]]).bool()
    >>> packed = pack(x, mask); packed.segments.tolist()
    [[1, 1, 1, 1], [1, 1, 1, 2]]
    >>> bool((packed.unpack(packed.values) == x * mask[..., None]).all())
    True
    """
    lengths: list[int] = mask.sum(1).tolist()
    longest = max(lengths, default=0)
    capacity = longest if capacity is None else capacity
    if longest > capacity:
        raise ValueError(f"a sequence of {longest} tokens does not fit rows of {capacity}: raise capacity")
    used: list[int] = []  # tokens in each row
    count: list[int] = []  # sequences in each row
    start = [0] * len(lengths)
    number = [0] * len(lengths)
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((r for r, n in enumerate(used) if n + lengths[i] <= capacity), len(used))
        if row == len(used):
            used.append(0)
            count.append(0)
        start[i] = row * capacity + used[row]
        count[row] += 1
        number[i] = count[row]
        used[row] += lengths[i]
    rows, device = len(used), x.device
    within = (mask.long().cumsum(1) - 1)[mask]  # [tokens]: how far into its sequence each token is
    owner = mask.nonzero()[:, 0]
    slots = torch.tensor(start, dtype=torch.long, device=device)[owner] + within
    values = x.new_zeros(rows * capacity, x.shape[-1]).index_copy(0, slots, x[mask])
    segments = torch.zeros(rows * capacity, dtype=torch.long, device=device)
    segments[slots] = torch.tensor(number, dtype=torch.long, device=device)[owner]
    segments = segments.view(rows, capacity)
    return Packed(values.view(rows, capacity, x.shape[-1]), segments > 0, segments, mask, slots)
