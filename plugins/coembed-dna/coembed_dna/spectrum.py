"""Counting k-mers with array operations: sequences to columns, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["canonical", "canonical_columns", "hashed_columns", "joined", "kmer_codes", "letter_table", "tally"]

Codes = NDArray[Any]  # uint32 or uint64: the narrower while it holds them, half the memory to walk
_OUT = 255  # a letter that no k-mer holds


def letter_table(letters: str) -> NDArray[np.uint8]:
    """A table from bytes to the index of a letter, 255 for every other byte.

    >>> letter_table("ACGT")[list(b"AGN")].tolist()
    [0, 2, 255]
    """
    table = np.full(256, _OUT, np.uint8)
    table[list(letters.encode())] = np.arange(len(letters), dtype=np.uint8)
    return table


def kmer_codes(digits: NDArray[np.uint8], k: int, base: int) -> tuple[Codes, NDArray[np.bool_]]:
    """Every k-mer of a row of letter indices as a number in that base, and whether all its letters are known.

    `digits` is [L]; both results are [L - k + 1], empty for a row shorter than k. The first letter counts most. A code
    of length a + b is put together from those of length a and b, so that it takes log2(k) passes, not k.

    >>> codes, known = kmer_codes(np.array([0, 1, 2, 255, 3, 3], np.uint8), 2, 4)
    >>> codes[known].tolist()
    [1, 6, 15]
    """
    kind: Any = np.uint32 if base**k <= 1 << 32 else np.uint64
    count = len(digits) - k + 1
    if count <= 0:
        return np.zeros(0, kind), np.zeros(0, bool)
    bad = digits == _OUT
    power: Codes = np.where(bad, 0, digits).astype(kind)  # the codes of length `width`
    codes: Codes | None = None
    width, done = 1, 0
    while True:
        if k & width:
            if codes is None:
                codes = power
            else:  # `codes` holds the first `done` letters of each k-mer, `power` those behind
                tail = power[done:]
                codes = codes[: len(tail)] * kind(base**width) + tail
            done += width
        width *= 2
        if width > k:
            break
        half = width // 2
        power = power[: len(power) - half] * kind(base**half) + power[half:]
    assert codes is not None
    before = np.concatenate([[0], np.cumsum(bad, dtype=np.int32)])
    return codes[:count], before[k:] == before[:-k]


def canonical(digits: NDArray[np.uint8], codes: Codes, k: int) -> Codes:
    """The lesser of each DNA k-mer's code and that of its reverse complement.

    >>> digits = letter_table("ACGT")[list(b"TTG")]
    >>> canonical(digits, kmer_codes(digits, 3, 4)[0], 3).tolist()  # CAA
    [16]
    """
    other = np.where(digits == _OUT, _OUT, 3 - digits)[::-1].astype(np.uint8)
    return np.minimum(codes, kmer_codes(other, k, 4)[0][::-1])


def canonical_columns(k: int) -> tuple[NDArray[np.int64], int]:
    """A column for each canonical k-mer, by code [4^k] (-1 for the others), and how many there are.

    >>> canonical_columns(2)[1], canonical_columns(6)[1]
    (10, 2080)
    """
    codes = np.arange(4**k, dtype=np.uint64)
    rest, other = codes.copy(), np.zeros_like(codes)
    for _ in range(k):
        other = other * np.uint64(4) + (np.uint64(3) - rest % np.uint64(4))
        rest //= np.uint64(4)
    least = codes <= other
    return np.where(least, np.cumsum(least) - 1, -1), int(least.sum())


def hashed_columns(codes: Codes, dim: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A column below `dim` and a sign for each code, the same on every machine and in every process.

    Signs keep the inner product of two spectra unbiased where k-mers share a column (Weinberger et al. 2009, Feature
    Hashing); the mixing of bits is SplitMix64's (Steele et al. 2014).

    >>> [part.tolist() for part in hashed_columns(np.arange(3, dtype=np.uint64), 100)]
    [[35, 65, 10], [-1.0, -1.0, -1.0]]
    """
    with np.errstate(over="ignore"):
        x = codes.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    sign = np.where(x >> np.uint64(63), np.float32(-1), np.float32(1))
    return (x % np.uint64(dim)).astype(np.int64), sign


def joined(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Texts as one row of bytes with a byte that is no letter behind each, and the row's text by place.

    >>> data, owner = joined(["AC", "G"])
    >>> data.tobytes(), owner.tolist()
    (b'AC\\x00G\\x00', [0, 0, 0, 1, 1])
    """
    data = np.frombuffer(b"".join(text.encode("ascii") + b"\0" for text in texts), np.uint8)
    return data, np.repeat(np.arange(len(texts)), [len(text) + 1 for text in texts])


def tally(
    rows: NDArray[np.int64], columns: NDArray[np.int64], signs: NDArray[np.float32] | None, count: int, dim: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Rows, columns and counts of the cells that occur, in order; with signs, their sums, which may be 0.

    `rows` is below `count`, `columns` below `dim`. Few k-mers are sorted; many are counted in a table of all cells.

    >>> [part.tolist() for part in tally(np.array([0, 0, 1]), np.array([7, 7, 2]), None, 2, 10)]
    [[0, 1], [7, 2], [2.0, 1.0]]
    """
    flat = rows * dim + columns
    if len(flat) > count * dim // 8:
        table = np.bincount(flat, weights=signs, minlength=count * dim)
        cells = np.flatnonzero(table)
        totals = table[cells]
    elif signs is None:
        cells, totals = np.unique(flat, return_counts=True)
    else:
        cells, place = np.unique(flat, return_inverse=True)
        totals = np.bincount(place, weights=signs, minlength=len(cells))
    return cells // dim, cells % dim, totals.astype(np.float32)
