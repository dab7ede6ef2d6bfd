"""Narrow: one query against a segment in three steps, each on what the one before it could not rule out.

The heads of all rows, a fraction of their bytes; the codes of what is left; the vectors of the few that remain. Each
step drops a row only if the bound of its score (see `sketch`) is below the k-th best exact score so far.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coembed import native
from coembed.embedding import Embedding
from coembed.index.found import Found
from coembed.index.segment import Segment
from coembed.index.sketch import Codes, Head, Sketch
from coembed.native.products import WIDEST, Dots

FEW = 4  # queries, up to which one by one beats all at once
_CHUNK = 1 << 15  # rows taken at once: what is made of them stays in cache
_READ = 1 << 12  # rows read one by one at once
_FIRST = 1 << 13  # rows that are looked at first, for a floor
_SEEDS = 16  # rows beyond k that are scored first, for a floor

Bounds = tuple[tuple[Tensor, float], ...]  # vectors over a segment's rows, and how much of each is added


def narrow(
    segment: Segment, made: Sketch, head: Head, q: Embedding, at: int, found: Found, mask: Tensor | None
) -> Iterator[Tensor]:
    """Rows that may be among the best of query `at`, in batches; `found` raises its floor between them."""
    query = q.values[at].sum(0)
    wide, directions = query.double(), head.wide
    along = (wide @ directions).float()
    across = wide - directions @ along.double()  # the part that the directions don't span
    base, norm = float(wide @ made.mean.double()), float(wide.norm())
    noise = norm * (made.noise() + len(query) * 1e-7 * made.longest)  # and of directions not quite of length 1
    product, some = _Product(head.codes, along), found.k + _SEEDS
    bounds = ((head.tail, float(across.norm())), (head.off, float(along.norm())))

    def bar() -> float:
        return float(found.floor[at]) - base - product.error - noise

    seeds = torch.zeros(0, dtype=torch.long)
    if found.floor[at] == -torch.inf:
        rows, rough, _ = product(max(_FIRST, 4 * some), -torch.inf, bounds, mask)
        seeds = rows[_best(rough, some)]
        yield seeds
    rows, rough, upper = product(len(segment), bar(), bounds, mask)
    known = _among(rows, seeds)
    rough[known] = upper[known] = -torch.inf
    if len(rows) > max(_READ, 4 * some):  # a better floor is worth more than it costs
        first = _best(rough, some)
        yield rows[first]
        upper[first] = -torch.inf
    rows = rows[_above(upper, bar())]
    # The step before ruled out nearly all: what is left is read row by row.
    product = _Product(made.codes, query)
    rows, rough, upper = product(rows, bar(), ((made.rest, norm),))
    if len(rows) > some:
        first = _best(rough, found.k)
        yield rows[first]
        upper[first] = -torch.inf
        rows = rows[_above(upper, bar())]
    if len(rows):
        yield rows


def _best(rough: Tensor, count: int) -> Tensor:
    return rough.topk(min(count, len(rough))).indices


def _among(rows: Tensor, few: Tensor) -> Tensor:
    """Where a few rows are among others, which rise."""
    at = torch.searchsorted(rows, few).clamp_max(max(0, len(rows) - 1))
    return at[rows[at] == few] if len(rows) else at[:0]


def _above(upper: Tensor, bar: float) -> Tensor:
    """Where upper bounds reach a bar; several times as fast as a mask where few do."""
    return torch.from_numpy(np.flatnonzero((upper >= _below(bar)).numpy()))


def _below(bar: float) -> float:
    """A bar in float32 that rounding has not raised; where a row is left out, its bound of -inf is below it."""
    lowest = torch.finfo(torch.float32).min
    return max(lowest, float(np.nextafter(np.float32(bar), np.float32(lowest))))


def _rounded(x: NDArray[np.float32]) -> tuple[NDArray[np.int8], float, NDArray[np.float32]]:
    """A vector's int8 codes, their step, and what rounding left over; of one vector faster than `quantise`."""
    step = np.maximum(np.abs(x).max() / np.float32(127), np.float32(1e-30))
    codes = np.rint(x / step)
    return codes.astype(np.int8), float(step), x - codes * step


class _Product:
    """A vector in two int8 parts, and its products with decoded rows.

    Reading the rows is what takes the time, so the second part costs nothing. `error` is how far a product may be off.
    """

    def __init__(self, kind: Codes, query: Tensor) -> None:
        high, step, left = _rounded(query.numpy())
        low, fine, left = _rounded(left)
        parts = torch.from_numpy(np.stack([high, low]))
        self.codes, self.scales = kind.values, (step * kind.step, fine * kind.step)
        self.error = float(np.linalg.norm(left)) * kind.longest
        self.dots: Dots | None = None
        if native.features() & native.BYTES and len(query) <= WIDEST:
            self.dots = Dots(parts, self.scales)
            return
        self.parts = parts.T
        self.scratch = torch.empty(_CHUNK, 2, dtype=torch.int32)  # one place: fresh memory costs as much as products

    def __call__(
        self, rows: int | Tensor, bar: float, bounds: Bounds, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows whose product plus bounds reaches a bar, of `[N]` or of the first so many; products; these sums."""
        if self.dots is None:
            return self._plain(rows, bar, bounds, mask)
        if isinstance(rows, Tensor):
            return self.dots(self.codes, rows, bar=_below(bar), bounds=bounds, mask=mask)
        some = tuple((values[:rows], slope) for values, slope in bounds)
        return self.dots(self.codes[:rows], bar=_below(bar), bounds=some, mask=None if mask is None else mask[:rows])

    def _plain(
        self, rows: int | Tensor, bar: float, bounds: Bounds, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same by torch's operations, some rows at a time."""
        none, total = torch.zeros(0), len(self.codes[:rows]) if isinstance(rows, int) else len(rows)
        parts = [(none.long(), none, none)]
        for start in range(0, total, _CHUNK if isinstance(rows, int) else _READ):
            some = slice(start, min(total, start + _CHUNK)) if isinstance(rows, int) else rows[start : start + _READ]
            codes = self.codes[some] if isinstance(some, slice) else self.codes.index_select(0, some)
            raw = torch._int_mm(codes, self.parts, out=self.scratch[: len(codes)])
            upper = values = torch.mul(raw[:, 0], self.scales[0]).add_(raw[:, 1] * self.scales[1])
            for vector, slope in bounds:
                upper = torch.add(upper, vector[some], alpha=slope)
            if mask is not None:
                upper = upper.masked_fill(~mask[some], -torch.inf)
            near = _above(upper, bar)
            parts.append((some[near] if isinstance(some, Tensor) else near + start, values[near], upper[near]))
        found, products, uppers = (torch.cat(part) for part in zip(*parts, strict=True))
        return found, products, uppers
