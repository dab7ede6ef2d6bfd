"""Scan: queries against a segment, a block of rows at a time, and which pairs may be among the k best.

A block is scored roughly, from int8 codes (see `sketch`) or, where there are none, in float32; either way with a bound
on how far a rough score is off. The k-th best of score minus bound, over the blocks so far, is a floor under the k-th
best score: a pair whose score plus bound is below it can be dropped. What is left is scored exactly by the caller.

Where the machine has matrix tiles (see `native.products`), all rows are one block: the kernel keeps the floor itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from coembed import native
from coembed.embedding import Embedding
from coembed.index.found import Found
from coembed.index.segment import Segment
from coembed.index.sketch import EPS, Sketch, quantise
from coembed.native.products import WIDEST, Tiles

_SCORES = 1 << 19  # scores held at once, 2 MB: they are read several times, so they should stay in cache
_ROWS = 1 << 14  # rows of a block at most
_PENDING = 1 << 20  # pairs held before they are scored exactly
_GROUP = 8  # rows compared with the floor by their best score
_CROWD = 16  # if more than one in so many pairs of a block pass, codes are too coarse for it


@dataclass(frozen=True, eq=False)
class Block:
    """Rough scores `[R, B]` of the segment's `rows` `[R]`: values * scale + shift, each at most `error` off (`[B]`)."""

    rows: Tensor
    values: Tensor
    scale: Tensor
    shift: Tensor
    error: Tensor


def scan(segment: Segment, q: Embedding, found: Found, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs (queries `[P]`, rows `[P]`) that may be among the best, a batch at a time.

    `found` knows k and a floor for each query, and may raise it between batches. `mask` `[N]` says which rows count.
    """
    some = Candidates(found)
    made = segment.sketch()
    coarse = None if made is None else Coarse(segment, made, q)
    pairs = None if coarse is None else coarse.pairs(found, mask)
    if pairs is not None:
        yield from pairs
        return
    for rows in _blocks(segment, q, mask):
        inside = None if mask is None else mask[rows]
        if coarse is None or not some.take(coarse.block(rows), inside, crowded=False):
            some.take(_exactly(segment, q, rows), inside, crowded=True)
        if some.pending >= _PENDING:
            yield some.drain()
    yield some.drain()


class Candidates:
    """The pairs of one segment that may be among the best, and the floor that its rough scores give."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.best = torch.full((0, len(found.floor)), -torch.inf)  # lower bounds, best first [<= k, B]
        self.pending = 0
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def take(self, block: Block, inside: Tensor | None, crowded: bool) -> bool:
        """Look through a block; False, with nothing taken, if too many pass and `crowded` does not allow it."""
        values, k = block.values, self.found.k
        lowest = -torch.inf if values.is_floating_point() else torch.iinfo(values.dtype).min
        if inside is not None and not bool(inside.all()):
            values = values.masked_fill(~inside[:, None], lowest)
        group = _GROUP if self.found.fixed or len(values) >= 2 * k * _GROUP else 1
        if len(values) % group:
            values = F.pad(values, (0, 0, 0, -len(values) % group), value=lowest)
        values = values.view(-1, group, values.shape[1])
        tops = values.amax(1)  # [G, B]
        best = self.best if self.found.fixed else self._raised(tops, block, lowest)
        floor = torch.maximum(self.found.floor, best[k - 1]) if len(best) == k else self.found.floor
        limit = (floor.double() - block.shift - block.error) / block.scale
        if values.is_floating_point():
            limit = torch.nextafter(limit.float(), torch.tensor(-torch.inf))
        else:
            limit = limit.floor().clamp(lowest + 1, -(lowest + 1)).int()
        groups, queries = _nonzero(tops >= limit)
        near = values[groups, :, queries]  # [P, group]
        pair, within = _nonzero((near >= limit[queries, None]) & (near > lowest))
        if not crowded and len(pair) * _CROWD > block.values.numel() + 256 * _CROWD:
            return False
        self.best = best
        queries = queries[pair]
        upper = near[pair, within] * block.scale[queries] + block.shift[queries] + block.error[queries]
        self._parts.append((queries, block.rows[groups[pair] * group + within], upper))
        self.pending += len(pair)
        return True

    def _raised(self, tops: Tensor, block: Block, lowest: float) -> Tensor:
        """The best lower bounds, those of a block among them: of each group its best, so that each is of a row."""
        k = self.found.k
        step = max(1, min(16, len(tops) // (2 * k)))
        wide = tops[: len(tops) // step * step].view(-1, step, tops.shape[1]).amax(1)
        if step > 1 and len(tops) % step:
            wide = torch.cat([wide, tops[len(tops) // step * step :]])
        lower = (wide * block.scale + block.shift - block.error).masked_fill(wide == lowest, -torch.inf)
        both = torch.cat([self.best, lower])
        return both.topk(min(k, len(both)), dim=0).values

    def drain(self) -> tuple[Tensor, Tensor]:
        """The pairs so far that are still above the floor; forgets them."""
        none = torch.zeros(0, dtype=torch.long)
        queries, rows, upper = (
            torch.cat(part) for part in zip((none, none, torch.zeros(0)), *self._parts, strict=True)
        )
        self._parts, self.pending = [], 0
        k = self.found.k
        floor = torch.maximum(self.found.floor, self.best[k - 1]) if len(self.best) == k else self.found.floor
        kept = upper >= floor[queries]
        return queries[kept], rows[kept]


def _blocks(segment: Segment, q: Embedding, mask: Tensor | None) -> Iterator[Tensor]:
    """Rows of every block; only those that count where they are few."""
    rows = mask.nonzero().flatten() if mask is not None and _few(mask) else torch.arange(len(segment))
    if segment.lengths is None:
        size = max(1, min(_ROWS, _SCORES // max(1, len(q))))
        size = size // _GROUP * _GROUP if size > _GROUP else size
        yield from rows.split(size) if len(rows) else ()
        return
    most = max(1, _SCORES // max(1, q.mask.numel()))  # vectors in a block
    ends, start = segment.lengths[rows].cumsum(0), 0
    while start < len(rows):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(torch.searchsorted(ends, before + most, right=True)))
        yield rows[start:end]
        start = end


def _few(mask: Tensor) -> bool:
    """Whether so few rows count that reading them one by one is less."""
    return int(mask.sum()) * 3 < len(mask)


def _tokens(segment: Segment, q: Embedding) -> Tensor:
    """Query vectors `[B, T, D]`; every one meets the one vector of a row, so there they can be summed first."""
    return q.values.sum(1, keepdim=True) if segment.lengths is None else q.values


def _pick(values: Tensor, segment: Segment, rows: Tensor) -> Tensor:
    """Vectors or codes of some rows; a run of rows is not copied."""
    if len(rows) and int(rows[-1] - rows[0]) == len(rows) - 1:
        if segment.lengths is None or segment.ends is None:
            return values[int(rows[0]) : int(rows[-1]) + 1]
        first = int(segment.ends[rows[0]] - segment.lengths[rows[0]])
        return values[first : int(segment.ends[rows[-1]])]
    return values.index_select(0, segment.at(rows))


def _exactly(segment: Segment, q: Embedding, rows: Tensor) -> Block:
    """Scores in float32: off by rounding alone, of D products for a matrix product and as many for a pair's own."""
    tokens, vectors = _tokens(segment, q), _pick(segment.vectors, segment, rows)
    zero = torch.zeros(len(q))
    noise = (q.dim + tokens.shape[1]) * EPS * tokens.norm(dim=2).sum(1) * segment.longest
    flat = vectors @ tokens.flatten(0, 1).T  # [sum T, B * Tq]
    values = flat if segment.lengths is None else _summed(flat.view(len(flat), *tokens.shape[:2]), segment, rows)
    return Block(rows, values, zero + 1, zero, noise)


class Coarse:
    """Queries in codes, and their scores with the codes of a segment's rows."""

    def __init__(self, segment: Segment, made: Sketch, q: Embedding) -> None:
        self.segment, self.made = segment, made
        tokens = _tokens(segment, q)
        flat = tokens.flatten(0, 1)  # [B * Tq, D]
        codes, step, rest = quantise(flat)
        self.codes = codes.T
        tiles = native.features() & native.TILES and 0 < q.dim <= WIDEST
        self.tiles = Tiles(codes) if tiles else None
        self.each = (len(q), tokens.shape[1])
        self.norms, self.scale = flat.norm(dim=1), step * made.codes.step
        self.shift = (flat.double() @ made.mean.double()).float()
        self.error = rest * made.codes.longest + self.norms * made.noise() * (1 + tokens.shape[1] / q.dim)
        self.scratch = torch.empty(0, len(flat), dtype=torch.int32)

    def pairs(self, found: Found, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor]] | None:
        """Pairs of all rows that may be among the best, as `scan` gives them; None if they can't be had at once."""
        segment, made, k = self.segment, self.made, 0 if found.fixed else found.k
        first, end = 0, len(segment)
        if mask is not None and len(mask):
            first, end = int(mask.byte().argmax()), end - int(mask.flip(0).byte().argmax())
        room = min(_PENDING, max(1 << 12, (end - first) * len(found.floor) // _CROWD))
        if (
            self.tiles is None
            or segment.lengths is not None
            or (mask is not None and _few(mask))
            or 4 * k > end - first
            or 4 * k * len(found.floor) > room
        ):
            return None
        scale, error = self.scale.double(), self.error.double()
        bar = (found.floor.double() - self.shift - error) / scale
        codes, rest = made.codes.values[first:end], made.rest[first:end]
        inside = None if mask is None or bool(mask[first:end].all()) else mask[first:end]
        some = self.tiles.best(codes, rest, inside, k, self.norms / scale, 2 * error / scale, bar, room)
        if some is None:
            return None
        queries, rows, values = some
        off = self.norms.double()[queries] * rest[rows]
        middle = values * scale[queries] + self.shift[queries]
        return _best_first(found, queries, rows + first, middle - off, middle + off + error[queries])

    def block(self, rows: Tensor) -> Block:
        """Rough scores of some rows, valid until the next; how far the worst rounded of them is off counts for all."""
        segment, made = self.segment, self.made
        error = self.error + self.norms * float(_pick(made.rest, segment, rows).max())
        codes = _pick(made.codes.values, segment, rows)
        if len(self.scratch) < len(codes):  # one place for all blocks: fresh memory costs as much as the product
            self.scratch = torch.empty(len(codes), self.codes.shape[1], dtype=torch.int32)
        raw = self.scratch[: len(codes)]  # [sum T, B * Tq], exact
        if self.tiles is None:
            torch._int_mm(codes, self.codes, out=raw)
        else:
            self.tiles(codes, raw)
        if segment.lengths is None:
            return Block(rows, raw, self.scale, self.shift, error)
        raw = raw.view(len(raw), *self.each)
        values = _summed(raw, segment, rows, self.scale.view(self.each), self.shift.view(self.each))
        zero = torch.zeros(self.each[0])
        return Block(rows, values, zero + 1, zero, error.view(self.each).sum(1))


def _best_first(
    found: Found, queries: Tensor, rows: Tensor, lower: Tensor, upper: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs (queries `[P]`, rows `[P]`): the k that look best for each query, then those above the floor they give."""
    order = torch.from_numpy(np.lexsort((-lower.numpy(), queries.numpy())))
    queries, rows, upper = queries[order], rows[order], upper[order]
    first = torch.arange(len(queries)) - torch.searchsorted(queries, queries) < found.k
    yield queries[first], rows[first]
    left = ~first & (upper >= found.floor[queries])
    yield queries[left], rows[left]


def _summed(
    flat: Tensor, segment: Segment, rows: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
) -> Tensor:
    """MaxSim `[R, B]` of rows from scores `[sum T, B, Tq]` with their vectors; scale and shift keep the order."""
    assert segment.lengths is not None
    lengths = segment.lengths[rows]
    longest = int(lengths.max())
    if bool((lengths == longest).all()):
        best = flat.view(len(rows), longest, *flat.shape[1:]).amax(1)
    else:
        starts = (lengths.cumsum(0) - lengths).numpy()
        best = torch.from_numpy(np.maximum.reduceat(flat.flatten(1).numpy(), starts, axis=0)).view(-1, *flat.shape[1:])
    if scale is not None and shift is not None:
        best = best * scale + shift
    return best.sum(2)  # masked tokens are zero and add nothing


def _nonzero(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where a matrix is True; several times as fast as torch's own where little is."""
    flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
    width = max(1, mask.shape[1])
    return flat // width, flat % width
