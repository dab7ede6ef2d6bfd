"""Long recordings: windows that cover every sample, and their tokens back in one row."""

from __future__ import annotations

import torch
from torch import Tensor

from coembed.embedding import Embedding


def spread(length: int, span: int) -> list[int]:
    """Where the fewest windows of `span` samples start that cover `length` samples; evenly, the last one ends it.

    Windows overlap rather than leave a short rest, which a model would see as a clip of its own.

    >>> spread(80, 100), spread(200, 100), spread(250, 100)
    ([0], [0, 100], [0, 75, 150])
    """
    count = -(-length // span)
    return [0] if count <= 1 else [i * (length - span) // (count - 1) for i in range(count)]


def stack(rows: list[list[Tensor]]) -> Tensor:
    """Windows of unlike counts and lengths, each `[..., n]`, as `[B, W, ..., n]` with zeros where there is none.

    >>> stack([[torch.ones(2)], [torch.ones(3), torch.ones(1)]]).shape
    torch.Size([2, 2, 3])
    """
    count, longest = max(map(len, rows)), max(window.shape[-1] for row in rows for window in row)
    out = rows[0][0].new_zeros(len(rows), count, *rows[0][0].shape[:-1], longest)
    for at, row in enumerate(rows):
        for place, window in enumerate(row):
            out[at, place, ..., : window.shape[-1]] = window
    return out


def gather(values: Tensor, mask: Tensor, real: Tensor) -> Embedding:
    """Tokens of all windows `[N, T, D]`, `mask` `[N, T]`, in one row an item: `[B, W * T, D]`.

    `real` `[B, W]` says which of an item's windows there are: N in all, in order.
    """
    tokens = values.new_zeros(*real.shape, *values.shape[1:])
    seen = torch.zeros(*real.shape, mask.shape[1], dtype=torch.bool, device=mask.device)
    tokens[real], seen[real] = values, mask
    return Embedding(tokens.flatten(1, 2), seen.flatten(1, 2))
