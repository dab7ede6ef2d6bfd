"""Tables whose rows share memory: hashed, composed of two, cut from one array, made by a network, a tensor train."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from coembed.nn.seeding import seeded
from coembed_index.codecs.lowrank import factors
from coembed_index.tables.base import Table, hashed, hashes

__all__ = ["DHE", "ROBE", "AdaptEmb", "Compositional", "Full", "Hash", "TTRec"]

STD = 0.1  # of rows at the start


class Full(Table):
    """A row for each number: what the others are measured by."""

    method = "full"

    def __init__(self, n: int, d: int, allowed: int, seed: int) -> None:
        super().__init__(n, d, allowed, seed)
        if allowed < 4 * n * d:
            raise self.too_small(4 * n * d)
        self.table = _table(n, d, seed)

    def rows(self, ids: Tensor) -> Tensor:
        """The rows."""
        return self.table[ids]


class Hash(Table):
    """Numbers of one bucket have one row: the baseline of the study."""

    method = "hash"
    hash: Tensor

    def __init__(self, n: int, d: int, allowed: int, seed: int) -> None:
        super().__init__(n, d, allowed, seed)
        count = (allowed - 16) // (4 * d)
        if count < 1:
            raise self.too_small(4 * d + 16)
        self.register_buffer("hash", hashes(1, seed))
        self.table = _table(count, d, seed)

    def rows(self, ids: Tensor) -> Tensor:
        """The buckets' rows."""
        return self.table[hashed(ids, self.hash, len(self.table))[:, 0]]


class Compositional(Table):
    """A number's row is the product, entry by entry, of a row for its quotient and one for its remainder.

    Source: Shi et al. 2020, Compositional Embeddings Using Complementary Partitions (KDD), section 3.
    """

    method = "compositional"

    def __init__(self, n: int, d: int, allowed: int, seed: int) -> None:
        super().__init__(n, d, allowed, seed)
        count = allowed // (4 * d)
        if count < 2 * math.isqrt(n) + 2:
            raise self.too_small(4 * d * (2 * math.isqrt(n) + 2))
        # The most remainders that leave room for their quotients: m + n / m <= count.
        m = min(n, (count + math.isqrt(count * count - 4 * n)) // 2)
        while m + -(-n // m) > count:
            m -= 1
        self.quotients = _table(-(-n // m), d, seed, std=STD**0.5)
        self.remainders = _table(m, d, seed + 1, std=STD**0.5)

    def rows(self, ids: Tensor) -> Tensor:
        """Products of two rows each."""
        m = len(self.remainders)
        return self.quotients[ids // m] * self.remainders[ids % m]


class AdaptEmb(Table):
    """The most frequent numbers have rows of their own, all others share a hashed table; half of the bytes each.

    Source: Zhang et al. 2023, Experimental Analysis of Large-scale Learnable Vector Storage Compression (AdaptEmb).
    """

    method = "adapt"
    ranked = True
    hash: Tensor

    def __init__(self, n: int, d: int, allowed: int, seed: int) -> None:
        super().__init__(n, d, allowed, seed)
        count = (allowed - 16) // (4 * d)
        if count < 2:
            raise self.too_small(8 * d + 16)
        self.register_buffer("hash", hashes(1, seed))
        self.frequent = min(n, count // 2)
        self.table = _table(count, d, seed)  # the frequent ones first, then the shared ones

    def rows(self, ids: Tensor) -> Tensor:
        """Own rows, or shared ones."""
        shared = self.frequent + hashed(ids, self.hash, len(self.table) - self.frequent)[:, 0]
        return self.table[torch.where(ids < self.frequent, ids, shared)]


class ROBE(Table):
    """Every entry of every row is a place in one array, found by hashing number and column, times a hashed sign.

    Source: Desai et al. 2022, Random Offset Block Embedding (MLSys), with blocks of one entry.
    """

    method = "robe"
    hash: Tensor

    def __init__(self, n: int, d: int, allowed: int, seed: int) -> None:
        super().__init__(n, d, allowed, seed)
        size = (allowed - 32 * d) // 4
        if size < d:
            raise self.too_small(36 * d)
        self.register_buffer("hash", hashes(2 * d, seed))
        self.array = _table(size, 1, seed)

    def rows(self, ids: Tensor) -> Tensor:
        """Entries from all over the array."""
        at = hashed(ids, self.hash[:, : self.d], len(self.array))
        sign = hashed(ids, self.hash[:, self.d :], 2) * 2 - 1
        return self.array[:, 0][at] * sign


class DHE(Table):
    """No table at all: `codes` hashes of a number, spread over -1..1, go through a network of six layers.

    Batch normalisation takes its statistics from the numbers looked up together while training; `eval()` before rows
    are used. Source: Kang et al. 2021, Deep Hash Embedding (KDD), sections 3 and 4.
    """

    method = "dhe"
    hash: Tensor

    def __init__(self, n: int, d: int, allowed: int, seed: int, codes: int = 256) -> None:
        super().__init__(n, d, allowed, seed)
        self.register_buffer("hash", hashes(codes, seed))
        fits = [h for h in range(1, 4096) if self._cost(codes, h, d) <= allowed]
        if not fits:
            raise self.too_small(self._cost(codes, 1, d))
        width = fits[-1]
        with seeded(seed):
            layers: list[nn.Module] = []
            for number in range(5):
                layers += [nn.Linear(width if number else codes, width), nn.BatchNorm1d(width), nn.Mish()]
            self.net = nn.Sequential(*layers, nn.Linear(width, d))

    @staticmethod
    def _cost(codes: int, h: int, d: int) -> int:
        linear = (codes + 1) * h + 4 * (h + 1) * h + (h + 1) * d
        return 4 * (linear + 5 * 4 * h) + 5 * 8 + 16 * codes

    def rows(self, ids: Tensor) -> Tensor:
        """What the network makes of the hashes."""
        spread = hashed(ids, self.hash, 1_000_000).float() / 499_999.5 - 1
        found: Tensor = self.net(spread)
        return found


class TTRec(Table):
    """Three cores, whose matrices for the three digits of a number are multiplied: a tensor train.

    Source: Yin et al. 2021, TT-Rec (MLSys), section 3; cores start at deviation (n / 3)^(-1/6).
    """

    method = "tt"

    def __init__(self, n: int, d: int, allowed: int, seed: int) -> None:
        super().__init__(n, d, allowed, seed)
        (n1, n2, n3), (d1, d2, d3) = factors(n), factors(d, exact=True)
        ends, middle = n1 * d1 + n3 * d3, n2 * d2
        rank = int((-ends + math.sqrt(ends**2 + 4 * middle * allowed / 4)) / (2 * middle))
        if rank < 1:
            raise self.too_small(4 * (ends + middle))
        std = (n1 * n2 * n3 / 3) ** (-1 / 6)
        self.first = nn.Parameter(_table(n1, d1 * rank, seed, std).detach().view(n1, d1, rank))
        self.second = nn.Parameter(_table(n2, rank * d2 * rank, seed + 1, std).detach().view(n2, rank, d2, rank))
        self.third = nn.Parameter(_table(n3, rank * d3, seed + 2, std).detach().view(n3, rank, d3))

    def rows(self, ids: Tensor) -> Tensor:
        """Products of three matrices each; the first two once for every pair of digits."""
        n3 = len(self.third)
        pairs = (
            torch.einsum("adr,bres->abdes", self.first, self.second).flatten(0, 1).flatten(1, 2)
        )  # [n1 n2, d1 d2, r]
        return torch.bmm(pairs[ids // n3], self.third[ids % n3]).flatten(1)


def _table(rows: int, d: int, seed: int, std: float = STD) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, d, generator=torch.Generator().manual_seed(seed)) * std)
