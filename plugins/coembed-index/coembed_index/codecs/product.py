"""Product codes by bits a row, all rows alike or the long ones finer."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from coembed_index.codecs.base import Codec, magnitude_groups
from coembed_index.kmeans import assign
from coembed_index.product import ProductCode

__all__ = ["PQ", "MagPQ", "pack_bits", "unpack_bits"]

Shape = tuple[int, int]  # subspaces, bits


class MagPQ(Codec):
    """Product codes of groups of rows by length, with more bits for longer rows: log2 of the ratio more a dimension.

    That is where the sum of squared errors is least (reverse water-filling). Rows of equal length make one group, and
    this is then PQ. The groups are the longest tenth, the next two tenths, three and four.
    Source: Zhang et al. 2023, Experimental Analysis of Large-scale Learnable Vector Storage Compression (MagPQ).
    """

    method = "magpq"
    grouped = True

    def fit(self, x: Tensor) -> Self:
        """Choose shapes that fill the budget, learn codebooks, code the rows."""
        allowed = self.allowed(x)
        groups = magnitude_groups(x) if self.grouped else torch.zeros(len(x), dtype=torch.long)
        count = int(groups.max()) + 1
        members = [(groups == g).nonzero().flatten() for g in range(count)]
        spare = allowed - (5 * len(x) if count > 1 else 0)  # each row's group and its place in it
        lengths = torch.tensor([float(x[rows].square().sum(1).mean().sqrt()) for rows in members]).clamp_min(1e-12)
        extra = torch.log2(lengths / lengths.log().mean().exp()) * x.shape[1]
        shapes = _shapes([len(rows) for rows in members], extra.tolist(), x.shape[1], spare)
        if shapes is None:
            least = sum(_cost((1, 1), len(rows), x.shape[1]) for rows in members) + allowed - spare
            raise self.too_small(least)
        self.tensors = {}
        for g, (rows, (subspaces, bits)) in enumerate(zip(members, shapes, strict=True)):
            code = ProductCode(x.shape[1], subspaces, 2**bits, rotate=False).fit(x[rows], seed=self.seed)
            self.tensors[f"books{g}"] = code.codebooks.detach()
            self.tensors[f"code{g}"] = pack_bits(code.encode(x[rows]), bits)
        if count > 1:
            place = torch.empty(len(x), dtype=torch.int32)
            for rows in members:
                place[rows] = torch.arange(len(rows), dtype=torch.int32)
            self.tensors |= {"group": groups.to(torch.uint8), "place": place}
        return self

    def encode(self, x: Tensor) -> None:
        """Code further rows with the codebooks that are there; raises ValueError where rows are grouped by length."""
        if "group" in self.tensors:
            super().encode(x)
        books = self.tensors["books0"]
        parts = x.view(len(x), len(books), -1).transpose(0, 1).contiguous()
        code = pack_bits(assign(parts, books)[0].T.to(torch.uint8), books.shape[1].bit_length() - 1)
        self.tensors["code0"] = torch.cat([self.tensors["code0"], code])
        self.shape = (self.shape[0] + len(x), self.shape[1])

    def decode(self, ids: Tensor) -> Tensor:
        """The codewords of rows, one after another."""
        if "group" not in self.tensors:
            return self._decode(0, ids)
        found, groups = torch.empty(len(ids), self.shape[1]), self.tensors["group"][ids]
        for g in groups.unique().tolist():
            here = groups == g
            found[here] = self._decode(g, self.tensors["place"][ids[here]].long())
        return found

    def _decode(self, group: int, rows: Tensor) -> Tensor:
        books = self.tensors[f"books{group}"]
        subspaces, words, _ = books.shape
        numbers = unpack_bits(self.tensors[f"code{group}"][rows], subspaces, words.bit_length() - 1)
        return books[torch.arange(subspaces), numbers.long()].flatten(1)


class PQ(MagPQ):
    """Product codes, all rows with the same bits.

    Source: Jégou et al. 2011, Product Quantization for Nearest Neighbor Search.
    """

    method = "pq"
    grouped = False


def _cost(shape: Shape, rows: int, dim: int) -> int:
    subspaces, bits = shape
    return rows * -(-subspaces * bits // 8) + 4 * dim * 2**bits


def _shapes(rows: list[int], extra: list[float], dim: int, allowed: int) -> list[Shape] | None:
    """A shape for each group, with most bits within the bytes allowed; None if not even one bit a row fits."""
    options = [(m, b) for m in range(1, dim + 1) if dim % m == 0 for b in range(1, 9)]

    def choose(level: float) -> list[Shape]:
        chosen = []
        for count, more in zip(rows, extra, strict=True):
            fits = [o for o in options if o[0] * o[1] <= max(1.0, level + more) and 2 ** o[1] <= max(2, count)]
            chosen.append(max(fits, key=lambda o: (o[0] * o[1], o[1])))  # at equal bits few large codebooks err less
        return chosen

    low, high, best = 0.0, 8.0 * dim + max(map(abs, extra)), None
    for level in [0.0, *(low + (high - low) * i / 512 for i in range(1, 513))]:
        shapes = choose(level)
        if sum(_cost(s, count, dim) for s, count in zip(shapes, rows, strict=True)) <= allowed:
            best = shapes
    return best


def pack_bits(numbers: Tensor, bits: int) -> Tensor:
    """Numbers `[N, M]` below 2^bits, uint8, to bytes `[N, ceil(M bits / 8)]`.

    >>> pack_bits(torch.tensor([[1, 2, 3]], dtype=torch.uint8), 2).tolist()
    [[57]]
    """
    flags = (numbers[:, :, None] >> torch.arange(bits, dtype=torch.uint8)) & 1  # [N, M, bits]
    flat = torch.nn.functional.pad(flags.flatten(1), (0, -numbers.shape[1] * bits % 8)).view(len(numbers), -1, 8)
    return (flat << torch.arange(8, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, count: int, bits: int) -> Tensor:
    """The first `count` numbers of each row again, `[N, count]`, uint8.

    >>> unpack_bits(torch.tensor([[57]], dtype=torch.uint8), 3, 2).tolist()
    [[1, 2, 3]]
    """
    flat = ((packed[:, :, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten(1)[:, : count * bits]
    return (flat.view(len(packed), count, bits) << torch.arange(bits, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)
