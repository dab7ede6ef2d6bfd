"""Multi-head attention: who may see whom, in what order, and the attention itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MultiHeadAttention", "Rotary", "attend_runs", "position_ids", "rotate", "visibility"]


def _starts(segments: Tensor) -> Tensor:
    """Mark where each run of equal ids begins: two sequences that carry one id, but apart, stay two."""
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return starts


def position_ids(mask: Tensor, segments: Tensor | None = None) -> Tensor:
    """Number the real tokens of each row from 0, and again from 0 in each segment.

    Padding is not counted, so a row padded on the left reads as the same row padded on the right. `mask` [B, T] bool,
    `segments` [B, T] integer; the answer is [B, T] int64, 0 at padding.

    >>> position_ids(torch.tensor([[False, True, True], [True, True, False]])).tolist()
    [[0, 0, 1], [0, 1, 0]]
    """
    before = mask.long().cumsum(1) - mask.long()  # real tokens to the left of each token
    if segments is not None:
        before = before - torch.where(_starts(segments), before, 0).cummax(1).values
    return before.masked_fill(~mask, 0)


def visibility(
    length: int,
    mask: Tensor | None = None,
    *,
    key_mask: Tensor | None = None,
    causal: bool = False,
    segments: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor | None:
    """Say which key each query sees: True is seen.

    `mask` [B, T] hides padding; `key_mask` hides further keys, from all queries ([B, T]) or query by query
    ([B, T, T], rows are queries); `causal` hides the tokens after the query; `segments` [B, T] hides every other run
    of equal ids. The answer broadcasts to [B, heads, T, T]; None means that nothing is hidden. ValueError for a
    `key_mask` of another shape or type.

    >>> visibility(3, causal=True)[0, 0].int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    parts: list[Tensor] = []
    if mask is not None:
        parts.append(mask[:, None, None, :])
    if key_mask is not None:
        if key_mask.dtype != torch.bool or tuple(key_mask.shape[1:]) not in ((length,), (length, length)):
            got = f"{key_mask.dtype} {list(key_mask.shape)}"
            raise ValueError(f"key_mask is {got}: pass bool [B, {length}] or [B, {length}, {length}]")
        parts.append(key_mask[:, None, None, :] if key_mask.dim() == 2 else key_mask[:, None])
    if segments is not None:
        runs = _starts(segments).cumsum(1)
        parts.append((runs[:, :, None] == runs[:, None, :])[:, None])
    if causal:
        parts.append(torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None])
    visible: Tensor | None = None
    for part in parts:
        visible = part if visible is None else visible & part
    return visible


class Rotary(nn.Module):
    """Turn positions into the angles of rotary embeddings (Su et al. 2021, RoFormer, eq. 15).

    `positions` [B, T] may be fractional (position interpolation) and `base` may be changed later (NTK scaling). The
    answer is (cos, sin), each [B, 1, T, head_dim / 2]. ValueError for an odd `head_dim`.

    >>> cos, sin = Rotary(4)(torch.tensor([[0, 1]])); cos.shape
    torch.Size([1, 1, 2, 2])
    """

    def __init__(self, head_dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"rotary positions turn pairs of numbers: a head of size {head_dim} must be even")
        self.head_dim = head_dim
        self.base = base

    def forward(self, positions: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """Return (cos, sin) in `dtype`; the angles are computed in float32 at least."""
        # computed here, not kept in a buffer: `.half()` would round the angles of late positions
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        pairs = torch.arange(0, self.head_dim, 2, device=positions.device, dtype=exact) / self.head_dim
        angles = positions.to(exact)[:, None, :, None] * self.base**-pairs  # [B, 1, T, head_dim / 2]
        return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_{i + D/2}) of `x` [B, H, T, D] by the angles whose cosine and sine are given.

    >>> rotate(torch.tensor([[[[1.0, 0.0]]]]), torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).tolist()
    [[[[0.0, 1.0]]]]
    """
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class MultiHeadAttention(nn.Module):
    """Attend from `x` to `context` (itself by default) with several heads (Vaswani et al. 2017, section 3.2).

    `x` [B, T, D], `context` [B, S, D], `visible` broadcasts to [B, heads, T, S] (True is seen). A query that sees no
    key gets zeros from the heads, never NaN. ValueError when `heads` does not divide `dim`.

    >>> MultiHeadAttention(8, heads=2)(torch.zeros(1, 3, 8)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide dim {dim}: choose heads from the divisors of dim")
        self.heads = heads
        self.dropout = dropout
        # four plain layers, not one fused: adapters and model growth address each by name
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, x.shape[-1] // self.heads).transpose(1, 2)  # [B, H, T, D / H]

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        visible: Tensor | None = None,
        rotation: tuple[Tensor, Tensor] | None = None,
        runs: Sequence[tuple[int, int]] | None = None,
    ) -> Tensor:
        """Return [B, T, D]; `rotation` is what `Rotary` gives, for queries and keys alike.

        With `runs`, (count, length) by run, the one row of `x` is sequences end to end, each of which sees itself.
        """
        context = x if context is None else context
        query, key, value = self._split(self.query(x)), self._split(self.key(context)), self._split(self.value(context))
        if rotation is not None:
            query, key = rotate(query, *rotation), rotate(key, *rotation)
        if runs is not None:
            alone: Tensor = self.output(attend_runs(query, key, value, runs))
            return alone
        blind: Tensor | None = None
        if visible is not None:
            # softmax over nothing is NaN in some kernels: let a blind query see all, then drop what it saw
            blind = ~visible.any(-1, keepdim=True)  # [B, 1, T or 1, 1]
            visible = visible | blind
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, dropout_p=self.dropout if self.training else 0.0
        )
        if blind is not None:
            mixed = mixed.masked_fill(blind, 0.0)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return out


def attend_runs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    runs: Sequence[tuple[int, int]],
    *,
    scale: float | None = None,
    causal: bool = False,
) -> Tensor:
    """Attention of sequences that lie end to end, one product for each run of equal lengths, none of it on padding.

    `query`, `key`, `value` are [1, H, N, D]; `runs` says (count, length) in order. Returns [1, N, H * D].

    >>> q = torch.randn(1, 2, 5, 4)
    >>> attend_runs(q, q, q, [(1, 3), (2, 1)]).shape
    torch.Size([1, 5, 8])
    """
    out = query.new_empty(query.shape[2], query.shape[1], query.shape[3])  # [N, H, D]
    start = 0
    for count, length in runs:
        at = slice(start, start + count * length)
        one, two, three = (x[0, :, at].unflatten(1, (count, length)).transpose(0, 1) for x in (query, key, value))
        mixed = F.scaled_dot_product_attention(one, two, three, scale=scale, is_causal=causal)  # [count, H, length, D]
        out[at].view(count, length, *out.shape[1:]).copy_(mixed.transpose(1, 2))
        start = at.stop
    return out.flatten(1)[None]
