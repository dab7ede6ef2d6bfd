"""Six-frame translation of a genome, to find the DNA of known proteins in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

_BASES = "TCAG"
# NCBI's table 11, codons in the order of _BASES; a stop is "*".
_RESIDUES = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_TAIL = 20


class Gene(NamedTuple):
    """Where a protein's DNA lies: `start` to `end` on the forward strand, stop codon included, and the strand."""

    start: int
    end: int
    strand: int


def reverse_complement(sequence: str) -> str:
    """The other strand.

    >>> reverse_complement("AACG")
    'CGTT'
    """
    return sequence[::-1].translate(_COMPLEMENT)


def frames(genome: str) -> Iterator[tuple[int, int, str]]:
    """Strand, offset and translation of each of the six frames; codons with other letters than ACGT are X.

    >>> [protein for strand, offset, protein in frames("ATGAAATGA")][0]
    'MK*'
    """
    import numpy as np

    digits = np.full(256, 64, dtype=np.int64)
    digits[np.frombuffer(_BASES.encode(), dtype=np.uint8)] = np.arange(4)
    table = np.frombuffer((_RESIDUES + "X").encode(), dtype=np.uint8)
    for strand in (1, -1):
        values = digits[np.frombuffer((genome if strand > 0 else reverse_complement(genome)).encode(), dtype=np.uint8)]
        for offset in range(3):
            whole = values[offset : offset + (len(values) - offset) // 3 * 3].reshape(-1, 3)
            codes = np.minimum(whole @ np.array([16, 4, 1]), 64)
            codes[(whole == 64).any(1)] = 64
            yield strand, offset, table[codes].tobytes().decode()


def locate(genome: str, proteins: Sequence[str]) -> list[Gene | None]:
    """The DNA of each protein, None for one that is not there: first found, forward strand first.

    A protein is found where a stretch between stops ends in its last 20 residues, and then in all of it but the first
    residue: GTG and TTG begin a protein too, and are then read as M.

    >>> locate("CC" + "GTG" + "AAA" * 25 + "TGA" + "C", ["M" + "K" * 25])
    [Gene(start=2, end=83, strand=1)]
    """
    wanted: dict[str, list[int]] = {}
    for number, protein in enumerate(proteins):
        wanted.setdefault(protein[-_TAIL:], []).append(number)
    found: list[Gene | None] = [None] * len(proteins)
    for strand, offset, translated in frames(genome):
        place = 0
        for stretch in translated.split("*"):
            end = place + len(stretch)
            for number in wanted.get(stretch[-_TAIL:], ()) if end < len(translated) else ():
                protein = proteins[number]
                if found[number] is None and len(stretch) >= len(protein) and stretch.endswith(protein[1:]):
                    low, high = offset + 3 * (end - len(protein)), offset + 3 * (end + 1)
                    found[number] = Gene(
                        *((low, high) if strand > 0 else (len(genome) - high, len(genome) - low)), strand
                    )
            place = end + 1
    return found


def coding(genome: str, gene: Gene) -> str:
    """A gene's own strand, start to stop codon."""
    piece = genome[gene.start : gene.end]
    return piece if gene.strand > 0 else reverse_complement(piece)
