"""Tiling: a reference cut into overlapping fragments, so that every read up to a length lies whole in one."""

from __future__ import annotations

from dataclasses import dataclass

from coembed_dna.esa.reference import Reference

__all__ = ["Fragment", "Tiling", "tile"]


@dataclass(frozen=True, slots=True)
class Fragment:
    """A stretch of a contig, counted from 0, `end` excluded.

    >>> Fragment("one", 0, 1250).name
    'one:0-1250'
    """

    contig: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """Contig and place, the fragment's id in an index."""
        return f"{self.contig}:{self.start}-{self.end}"


@dataclass(frozen=True)
class Tiling:
    """The fragments of a reference in order, and those that were `skipped` since they are N alone."""

    fragments: tuple[Fragment, ...]
    skipped: tuple[Fragment, ...]
    length: int
    step: int

    @property
    def covers(self) -> int:
        """The longest read that lies whole in some fragment wherever it comes from: length - step + 1.

        Skipped fragments hold no base, so no read comes from them alone.
        """
        return self.length - self.step + 1


def tile(reference: Reference, length: int = 1250, step: int = 1000) -> Tiling:
    """Fragments of `length` bases, one every `step`; a contig's last one ends with it and may be shorter.

    Raises ValueError unless 1 <= step <= length, or if nothing but N is left.

    >>> tiling = tile(Reference({"one": "ACGT" * 5, "two": "NNNNACG"}), length=8, step=6)
    >>> [fragment.name for fragment in tiling.fragments], tiling.covers
    (['one:0-8', 'one:6-14', 'one:12-20', 'two:0-7'], 3)
    """
    if not 1 <= step <= length:
        raise ValueError(f"step={step} must lie in 1..{length}, the fragment's length: else reads fall between")
    kept: list[Fragment] = []
    skipped: list[Fragment] = []
    for name, text in reference.contigs.items():
        for start in range(0, max(1, len(text) - length + step), step):
            end = min(start + length, len(text))
            bases = end - start - text.count("N", start, end)
            (kept if bases else skipped).append(Fragment(name, start, end))
    if not kept:
        raise ValueError(f"the reference is N alone: {', '.join(reference.contigs)}")
    return Tiling(tuple(kept), tuple(skipped), length, step)
