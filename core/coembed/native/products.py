"""Products of int8 rows with queries by the kernels, on as many threads as torch has; and which of them may matter.

A call takes what `features` says that this machine has: `Dots` needs `BYTES`, `Tiles` needs `TILES`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from coembed.native import BYTES, TILES, features, library

WIDEST = 1 << 17  # bytes of a row: sums of their products fit in 32 bits
_BYTES = 64  # of a vector register, and of a row of a tile
_ROWS = 16  # of a tile
_LEAST = 1 << 18  # bytes of rows that are worth a thread


class Dots:
    """A query in two int8 parts `[2, W]`, which count `scales`, and its products with rows.

    >>> from coembed.native import BYTES, features
    >>> dots = Dots(torch.tensor([[2, 1], [0, 1]], dtype=torch.int8), (1.0, 0.5)) if features() & BYTES else None
    >>> rows = torch.tensor([[1, 0], [3, 4]], dtype=torch.int8)
    >>> dots is None or [x.tolist() for x in dots(rows, bar=5.0)] == [[1], [12.0], [12.0]]
    True
    """

    def __init__(self, parts: Tensor, scales: tuple[float, float]) -> None:
        assert features() & BYTES
        self.width = parts.shape[1]
        self.parts = pad(parts, (0, -self.width % _BYTES)).contiguous()
        self.scales = torch.tensor(scales)

    def __call__(
        self,
        codes: Tensor,
        rows: Tensor | None = None,
        *,
        bar: float = -torch.inf,
        bounds: tuple[tuple[Tensor, float], ...] = (),
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows `[P]`, rising as they were given, whose upper bound reaches `bar`; their products, and those bounds.

        `rows` says which of `codes` `[N, W]` (None: all). The bound is the product plus, of each of up to two `bounds`,
        a vector `[N]` times a factor. `mask` `[N]` says which rows count.
        """
        native, codes = library(), _codes(codes, self.width)
        assert native is not None
        some = [_facts(values, torch.float32, len(codes)) for values, _ in bounds]
        mask = None if mask is None else _facts(mask, torch.bool, len(codes))
        listed = None if rows is None else _facts(rows, torch.long, len(rows))
        total = len(codes) if listed is None else len(listed)
        found, values, uppers = torch.empty(total, dtype=torch.long), torch.empty(total), torch.empty(total)
        slopes = torch.tensor([*(slope for _, slope in bounds), 0.0, 0.0])
        tail, off = [*map(_at, some), None, None][:2]
        size, parts = _split(total, self.width)
        counts = torch.zeros(parts, dtype=torch.long)
        native.ce_dots(
            codes.data_ptr(),
            self.width,
            _at(listed),
            total,
            size,
            self.parts.data_ptr(),
            self.scales.data_ptr(),
            tail,
            off,
            slopes.data_ptr(),
            bar,
            _at(mask),
            *(x.data_ptr() for x in (found, values, uppers, counts)),
        )
        filled = [slice(i * size, i * size + count) for i, count in enumerate(counts.tolist())]
        where, values, uppers = (_joined(x, filled) for x in (found, values, uppers))
        return (where if listed is None else listed[where]), values, uppers


class Tiles:
    """Queries `[B, W]` in int8, packed as the tiles want them, and their products with rows.

    >>> from coembed.native import TILES, features
    >>> tiles = Tiles(torch.tensor([[2, 1], [0, 1]], dtype=torch.int8)) if features() & TILES else None
    >>> tiles is None or tiles(torch.tensor([[3, 4]], dtype=torch.int8)).tolist() == [[10, 4]]
    True
    """

    def __init__(self, queries: Tensor) -> None:
        assert features() & TILES  # the system allows tiles only to those who have asked
        self.queries, self.width = queries.shape
        filled = pad(queries, (0, -self.width % _BYTES, 0, -self.queries % _ROWS))
        tiles = filled.view(len(filled) // _ROWS, _ROWS, filled.shape[1] // _BYTES, _ROWS, 4)
        self.packed = tiles.permute(0, 2, 3, 1, 4).contiguous()  # fours of a row side by side, for each query

    def __call__(self, codes: Tensor, out: Tensor | None = None) -> Tensor:
        """The products `[N, B]` with rows `[N, W]`, in int32; written to `out` if there is one."""
        native, codes = library(), _codes(codes, self.width)
        assert native is not None
        made = torch.empty(len(codes), self.queries, dtype=torch.int32) if out is None else out
        size, parts = _split(len(codes), self.width)
        copies = self._copies(parts)
        at = (self.packed.data_ptr(), self.queries, copies.data_ptr(), made.data_ptr())
        native.ce_products(codes.data_ptr(), self.width, len(codes), size, *at)
        return made

    def best(
        self,
        codes: Tensor,
        rest: Tensor,
        mask: Tensor | None,
        k: int,
        norm: Tensor,
        gap: Tensor,
        bar: Tensor,
        room: int,
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Pairs that may be among the k best: queries `[P]`, rows `[P]`, products `[P]`.

        A pair's true score lies within `norm[query] * rest[row]` of its product, give or take `gap[query] / 2`, all in
        units of the products; what can't reach the `bar` `[B]`, which the k-th best lower bound raises, is left out.
        None if more than `room` pairs were left. `rest` and `mask` are `[N]`, norm, gap and bar `[B]`.
        """
        native, codes = library(), _codes(codes, self.width)
        assert native is not None and len(codes) < 1 << 31
        rest = _facts(rest, torch.float32, len(codes))
        mask = None if mask is None else _facts(mask, torch.bool, len(codes))
        norm, gap, bar = (_facts(x.double(), torch.float64, self.queries) for x in (norm, gap, bar))
        size, parts = _split(len(codes), self.width)
        pairs, counts = torch.empty(parts, 3, room, dtype=torch.int32), torch.zeros(parts, dtype=torch.long)
        raised, copies = bar.repeat(parts, 1), self._copies(parts)
        best = torch.full((parts, self.queries, k), -torch.inf, dtype=torch.float64)
        native.ce_scan(
            codes.data_ptr(),
            self.width,
            len(codes),
            size,
            self.packed.data_ptr(),
            self.queries,
            k,
            rest.data_ptr(),
            _at(mask),
            *(x.data_ptr() for x in (norm, gap, raised, best, copies)),
            room,
            pairs.data_ptr(),
            counts.data_ptr(),
        )
        if bool((counts < 0).any()):
            return None
        bars = torch.cat([bar[None], raised]).amax(0)
        if k and parts > 1:  # together the threads know more
            lowest = best.transpose(0, 1).flatten(1).topk(k, dim=1).values[:, -1]
            bars = torch.maximum(bars, lowest - gap)
        rows, queries, values = torch.cat([pairs[i, :, :count] for i, count in enumerate(counts.tolist())], 1).long()
        # Less than 1 is left to rounding; what is no number leaves nothing out.
        kept = ~(values + norm[queries] * rest[rows] + 1 < bars[queries])
        return queries[kept], rows[kept], values[kept]

    def _copies(self, parts: int) -> Tensor:
        """Room for the last rows of each part, which are read with zeros after them."""
        return torch.empty(parts, _ROWS, -(-self.width // _BYTES) * _BYTES, dtype=torch.int8)


def _codes(codes: Tensor, width: int) -> Tensor:
    """Codes as the kernels read them; they look at nothing but addresses."""
    if codes.dtype != torch.int8 or codes.dim() != 2 or codes.shape[1] != width or width > WIDEST:
        raise ValueError(
            f"codes are {codes.dtype} {list(codes.shape)}: int8 [N, {width}] is needed, at most {WIDEST} wide"
        )
    return codes.contiguous()


def _facts(x: Tensor, dtype: torch.dtype, count: int) -> Tensor:
    if x.dtype != dtype or x.shape != (count,):
        raise ValueError(f"a vector is {x.dtype} {list(x.shape)}: {dtype} [{count}] is needed")
    return x.contiguous()


def _at(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _joined(x: Tensor, parts: list[slice]) -> Tensor:
    """Parts of a vector, moved together in place: each is after the one before it, and may overlap where it goes."""
    count, values = 0, x.numpy()
    for part in parts:
        start, count = count, count + part.stop - part.start
        if start != part.start:
            values[start:count] = values[part]
    return x[:count]


def _split(rows: int, width: int) -> tuple[int, int]:
    """Rows of a part, and how many parts: one for each of torch's threads where they are worth it."""
    threads = max(1, min(torch.get_num_threads(), rows * width // _LEAST))
    size = max(_ROWS, -(-rows // (threads * _ROWS)) * _ROWS)
    return size, max(1, -(-rows // size))
