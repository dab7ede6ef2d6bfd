"""Narrow: one query against a segment in three steps, each on what the one before it could not rule out.

The heads of all rows, a fraction of their bytes; the codes of what is left; the vectors of the few that remain. Each
step drops a row only if the bound of its score (see `sketch`) is below the k-th best exact score so far.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index.found import Found
from coembed.index.segment import Segment
from coembed.index.sketch import Codes, Head, Sketch, quantise

FEW = 4  # queries, up to which one by one beats all at once
_CHUNK = 1 << 15  # rows taken at once: what is made of them stays in cache
_READ = 1 << 12  # rows read one by one at once
_GROUP = 32  # rows of which the best is looked at first
_SEEDS = 32  # rows beyond k that are scored first, for a floor


def narrow(
    segment: Segment, made: Sketch, head: Head, q: Embedding, at: int, found: Found, mask: Tensor | None
) -> Iterator[Tensor]:
    """Rows that may be among the best of query `at`, in batches; `found` raises its floor between them."""
    query = q.values[at].sum(0)
    norm, noise = float(query.norm()), made.noise()
    wide, directions = query.double(), head.directions.double()
    along = (wide @ directions).float()
    across = wide - directions @ along.double()  # the part that the directions don't span
    base = float(wide @ made.mean.double())
    noise = norm * (noise + len(query) * 1e-7 * made.longest)  # and of directions that are not quite of length 1
    product, rough = _Product(head.codes, along), torch.empty(len(segment))
    for start in range(0, len(rough), _CHUNK):
        product(head.codes.values[start : start + _CHUNK], rough[start : start + _CHUNK])
    if mask is not None:
        rough.masked_fill_(~mask, -torch.inf)
    seeds = _best(rough, min(found.k + _SEEDS, len(rough)))
    yield seeds
    rough[seeds] = -torch.inf
    bar, scratch, parts = _floor(found, at) - base - product.error - noise, torch.empty(_CHUNK), []
    for start in range(0, len(rough), _CHUNK):
        some = slice(start, start + _CHUNK)
        upper = torch.add(rough[some], head.tail[some], alpha=float(across.norm()), out=scratch[: len(rough) - start])
        parts.append(_above(upper.add_(head.off[some], alpha=float(along.norm())), bar) + start)
    left = torch.cat(parts)
    # The step before ruled out nearly all: what is left is read row by row.
    product, rough = _Product(made.codes, query), torch.empty(len(left))
    codes = torch.empty(_READ, len(query), dtype=torch.int8)
    for start in range(0, len(left), _READ):
        near = left[start : start + _READ]
        product(torch.index_select(made.codes.values, 0, near, out=codes[: len(near)]), rough[start : start + _READ])
    upper = torch.add(rough, made.rest[left], alpha=norm)
    first = rough.topk(min(found.k, len(left))).indices
    yield left[first]
    upper[first] = -torch.inf
    yield left[_above(upper, _floor(found, at) - base - product.error - noise)]


def _best(rough: Tensor, count: int) -> Tensor:
    """About the best `count` rows, and surely some of them: those of the groups whose best is high."""
    if len(rough) >= 64 * _GROUP * count:
        groups = rough[: len(rough) // _GROUP * _GROUP].view(-1, _GROUP)
        best = groups.amax(1).topk(count).indices
        rows = best * _GROUP + groups[best].argmax(1)
    else:
        rows = rough.topk(count).indices
    return rows[rough[rows] > -torch.inf]


def _floor(found: Found, at: int) -> float:
    return float(found.floor[at])


def _above(upper: Tensor, bar: float) -> Tensor:
    """Where upper bounds reach a bar; -inf never does."""
    return torch.from_numpy(np.flatnonzero((upper >= max(bar, torch.finfo(torch.float32).min)).numpy()))


class _Product:
    """A vector in two int8 parts, and its products with decoded rows.

    Reading the rows is what takes the time, so the second part costs nothing. `error` is how far a product may be off.
    """

    def __init__(self, kind: Codes, query: Tensor) -> None:
        high, step, _ = quantise(query[None])
        low, fine, rest = quantise(query[None] - high * step[:, None])
        self.parts = torch.cat([high, low]).T
        self.scales = float(step) * kind.step, float(fine) * kind.step
        self.error = float(rest) * kind.longest
        self.scratch = torch.empty(_CHUNK, 2, dtype=torch.int32)  # one place: fresh memory costs as much as the product

    def __call__(self, codes: Tensor, out: Tensor) -> None:
        """Write the products `[N]` with codes `[N, W]` to `out`."""
        raw = torch._int_mm(codes, self.parts, out=self.scratch[: len(codes)])
        torch.mul(raw[:, 0], self.scales[0], out=out)
        out.add_(raw[:, 1] * self.scales[1])
