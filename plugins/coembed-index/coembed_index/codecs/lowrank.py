"""Factors of the matrix: SVD, SVD with more dimensions for longer rows, tensor train."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

from coembed_index.codecs.base import Codec, magnitude_groups

__all__ = ["SVD", "TTSVD", "MagSVD", "factors"]

_TRAIN = 256  # rows of a tensor train decoded at once: each needs its three matrices
_POWER = 0.3  # dimensions of a group fall with its number of rows to this power


class MagSVD(Codec):
    """A truncated SVD for each group of rows by length; the rank falls with the group's rows, n_g^-0.3.

    The longest rows are the smallest group, and so keep most dimensions. Groups are the longest tenth, the next two
    tenths, three and four; rows of equal length make one group, and this is then SVD.
    Source: Zhang et al. 2023, Experimental Analysis of Large-scale Learnable Vector Storage Compression (MagSVD).
    """

    method = "magsvd"
    grouped = True

    def fit(self, x: Tensor) -> Self:
        """Choose ranks that fill the budget, and factor each group."""
        allowed, dim = self.allowed(x), x.shape[1]
        groups = magnitude_groups(x) if self.grouped else torch.zeros(len(x), dtype=torch.long)
        members = [(groups == g).nonzero().flatten() for g in range(int(groups.max()) + 1)]
        several = len(members) > 1
        spare = allowed - (5 * len(x) if several else 0)
        costs = [4 * (len(rows) + dim) for rows in members]  # bytes of one rank
        scale = [len(rows) ** -_POWER for rows in members]
        if spare < sum(costs):
            raise self.too_small(sum(costs) + allowed - spare)

        def ranks(level: float) -> list[int]:
            return [max(1, min(int(level * s), dim, len(r))) for s, r in zip(scale, members, strict=True)]

        low, high = 0.0, (dim + 1) / min(scale)
        for _ in range(50):
            middle = (low + high) / 2
            used = sum(cost * rank for cost, rank in zip(costs, ranks(middle), strict=True))
            low, high = (middle, high) if used <= spare else (low, middle)
        self.tensors = {}
        for g, (rows, rank) in enumerate(zip(members, ranks(low), strict=True)):
            basis = _basis(x[rows], rank)  # [D, r]
            self.tensors |= {f"left{g}": x[rows] @ basis, f"right{g}": basis.T.contiguous()}
        if several:
            place = torch.empty(len(x), dtype=torch.int32)
            for rows in members:
                place[rows] = torch.arange(len(rows), dtype=torch.int32)
            self.tensors |= {"group": groups.to(torch.uint8), "place": place}
        return self

    def encode(self, x: Tensor) -> None:
        """Project further rows on the basis that is there; raises ValueError where rows are grouped by length."""
        if "group" in self.tensors:
            super().encode(x)
        self.tensors["left0"] = torch.cat([self.tensors["left0"], x @ self.tensors["right0"].T])
        self.shape = (self.shape[0] + len(x), self.shape[1])

    def decode(self, ids: Tensor) -> Tensor:
        """Each row's coordinates times the basis of its group."""
        if "group" not in self.tensors:
            return _product(self.tensors["left0"][ids], self.tensors["right0"])
        found, groups = torch.empty(len(ids), self.shape[1]), self.tensors["group"][ids]
        for g in groups.unique().tolist():
            here = groups == g
            left = self.tensors[f"left{g}"][self.tensors["place"][ids[here]].long()]
            found[here] = _product(left, self.tensors[f"right{g}"])
        return found


class SVD(MagSVD):
    """A truncated SVD of rank budget N D / (N + D)."""

    method = "svd"
    grouped = False


class TTSVD(Codec):
    """A tensor train of three cores: row i = (i1, i2, i3) is the product of a matrix from each.

    N and D are cut into three factors each, N rounded up; both inner ranks are the same where the matrix has as many.
    Source: Oseledets 2011, Tensor-Train Decomposition, algorithm 1.
    """

    method = "tt-svd"

    def fit(self, x: Tensor) -> Self:
        """Choose the rank that fills the budget, and factor from left to right."""
        allowed = self.allowed(x) - 4 * 6
        (n1, n2, n3), (d1, d2, d3) = factors(len(x)), factors(x.shape[1], exact=True)
        one, two, three = n1 * d1, n2 * d2, n3 * d3
        # 4 (one r + r two r + r three) bytes
        rank = int((-(one + three) + math.sqrt((one + three) ** 2 + 4 * two * allowed / 4)) / (2 * two))
        if rank < 1:
            raise self.too_small(4 * (one + two + three) + 24)
        padded = torch.zeros(n1 * n2 * n3, x.shape[1])
        padded[: len(x)] = x
        cube = padded.view(n1, n2, n3, d1, d2, d3).permute(0, 3, 1, 4, 2, 5).reshape(one, two * three)
        first = _basis(cube.T, min(rank, one))  # [one, r1]
        r1 = first.shape[1]
        rest = (first.T @ cube).reshape(r1 * two, three)
        last = _basis(rest, min(rank, three))  # [three, r2]: of the short side, whose Gram matrix is small
        r2 = last.shape[1]
        self.tensors = {
            "first": first.view(n1, d1, r1).contiguous(),
            "second": (rest @ last).view(r1, n2, d2, r2).permute(1, 0, 2, 3).contiguous(),
            "third": last.T.reshape(r2, n3, d3).permute(1, 0, 2).contiguous(),
        }
        return self

    def decode(self, ids: Tensor) -> Tensor:
        """The product of three matrices a row."""
        first, second, third = (self.tensors[name] for name in ("first", "second", "third"))
        n2, n3, found = len(second), len(third), torch.empty(len(ids), self.shape[1])
        for at in range(0, len(ids), _TRAIN):
            part = ids[at : at + _TRAIN]
            a, b, c = first[part // (n2 * n3)], second[part // n3 % n2], third[part % n3]
            left = torch.bmm(a, b.flatten(2)).view(len(part), -1, b.shape[3])  # [B, d1 d2, r2]
            found[at : at + _TRAIN] = torch.bmm(left, c).flatten(1)
        return found


def factors(n: int, *, exact: bool = False) -> tuple[int, int, int]:
    """Three factors as alike as can be whose product is at least n, or is n if `exact`.

    >>> factors(1000), factors(384, exact=True), factors(10)
    ((10, 10, 10), (8, 6, 8), (3, 2, 2))
    """
    if not exact:
        first = math.ceil(n ** (1 / 3) - 1e-9)
        second = math.ceil(math.sqrt(n / first) - 1e-9)
        return first, second, math.ceil(n / (first * second))
    best = min(
        ((a, b, n // (a * b)) for a in range(1, n + 1) if n % a == 0 for b in range(1, n // a + 1) if n // a % b == 0),
        key=lambda t: (sum(t), t[1]),
    )
    return best


def _basis(x: Tensor, rank: int) -> Tensor:
    """The `rank` leading right singular vectors `[D, r]`, from the small Gram matrix, in double precision."""
    gram = x.double().T @ x.double()
    _, vectors = torch.linalg.eigh(gram)
    return vectors[:, -rank:].flip(1).float()


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Rows times a matrix, each row by itself: a matrix product's bits depend on how many rows it has."""
    return torch.bmm(left[:, None], right.expand(len(left), -1, -1))[:, 0]
