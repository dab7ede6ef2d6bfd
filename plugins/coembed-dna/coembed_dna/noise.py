"""Noise of sequencing: substitutions, insertions and deletions, drawn base by base."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rates", "counted", "mutate"]

_LETTERS = np.frombuffer(b"ACGT", np.uint8)


@dataclass(frozen=True)
class Rates:
    """Ranges (least, most) that a read's rate of each kind of error is drawn from, per base.

    >>> Rates(substitutions=(0.0, 1.5))
    Traceback (most recent call last):
    ValueError: substitutions=(0.0, 1.5): a range of rates must rise within 0..1
    """

    substitutions: tuple[float, float] = (0.0, 0.0)
    insertions: tuple[float, float] = (0.0, 0.0)
    deletions: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("substitutions", "insertions", "deletions"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise ValueError(f"{name}={(low, high)}: a range of rates must rise within 0..1")


def counted(seed: int, number: int) -> np.random.Generator:
    """The generator of one record: a function of (seed, number) alone, so that any record can be drawn by itself.

    >>> int(counted(1, 2).integers(100)) == int(counted(1, 2).integers(100)) != int(counted(1, 3).integers(100))
    True
    """
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))


def mutate(text: str, rates: Rates, random: np.random.Generator) -> str:
    """A sequence with errors: other bases for some, bases left out, random bases put in before others.

    N stays N unless it is left out. At least one base is kept.

    >>> mutate("ACGTACGT", Rates(), counted(0, 0))
    'ACGTACGT'
    >>> sum(a != b for a, b in zip("A" * 1000, mutate("A" * 1000, Rates((0.1, 0.1)), counted(0, 0))))
    109
    """
    low, high = np.array([rates.substitutions, rates.insertions, rates.deletions]).T
    if not high.any():
        return text
    substitution, insertion, deletion = random.uniform(low, high)
    bases = np.frombuffer(text.encode(), np.uint8).copy()
    hit = np.flatnonzero(random.random(len(bases)) < substitution)
    bases[hit] = _others(bases[hit], random)
    bases = bases[random.random(len(bases)) >= deletion] if deletion else bases
    if not len(bases):
        return text[:1]
    extra = np.flatnonzero(random.random(len(bases)) < insertion)
    bases = np.insert(bases, extra, _LETTERS[random.integers(4, size=len(extra))])
    return bases.tobytes().decode()


def _others(bases: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Another base for each, uniform over the three; N stays."""
    place = np.searchsorted(_LETTERS, bases)
    known = _LETTERS[np.minimum(place, 3)] == bases
    changed = _LETTERS[(place + random.integers(1, 4, size=len(bases))) % 4]
    return np.where(known, changed, bases)
