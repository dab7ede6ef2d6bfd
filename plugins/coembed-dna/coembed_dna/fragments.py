"""`dna/fragments`: pairs of a fragment of a genome and a read from it, drawn by number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from coembed.sources import Record, Source
from coembed_dna.esa.reference import Reference, as_reference
from coembed_dna.noise import Rates, counted, mutate
from coembed_dna.sequence import reverse_complement

__all__ = ["FragmentReads"]

_TRIES = 100  # before a reference counts as one without reads


@dataclass(frozen=True)
class Cell:
    """A stretch of a contig that holds whole fragments."""

    contig: str
    start: int
    end: int


class FragmentReads(Source):
    """Fragments of a reference and reads drawn inside them, with errors and from both strands.

    `reference` is a FASTA or GenBank file, sequences by name, or a `Reference`. `fragment` and `read` are ranges of
    lengths; a share `noisy` of the reads get errors at rates drawn from `substitutions`, `insertions` and `deletions`,
    a share `reverse` is read from the other strand. Record i is a function of (`seed`, i) alone; reads hold no N.

    Contigs are cut into cells of about four of the longest fragments, and a fragment lies in one of them. `group` and
    `label` are the cell: overlapping fragments always share it, so that `Contrast(same="group")` never takes one for a
    negative of the other, and `split` holds out whole cells. Towers are `fragment` and `read`; `extra` says contig,
    start and end of the read (from 0, end excluded), its strand, and the fragment's start.

    Raises ValueError for ranges that cannot be, and for a reference whose contigs are all shorter than a read.
    Source: Holur et al. 2025, Embed-Search-Align, section 2 (there: substitutions alone, no reverse strand).

    >>> source = FragmentReads({"one": "ACGTTGCA" * 40}, 3, fragment=(60, 80), read=(20, 30), noisy=0, reverse=0)
    >>> record = source[2]
    >>> record["read"] in record["fragment"], record.label == record.group, len(source)
    (True, True, 3)
    """

    def __init__(
        self,
        reference: Reference | Mapping[str, str] | Path | str,
        count: int = 10_000,
        *,
        fragment: tuple[int, int] = (800, 2000),
        read: tuple[int, int] = (150, 500),
        noisy: float = 0.4,
        substitutions: tuple[float, float] = (0.01, 0.05),
        insertions: tuple[float, float] = (0.0, 0.0),
        deletions: tuple[float, float] = (0.0, 0.0),
        reverse: float = 0.5,
        seed: int = 0,
    ) -> None:
        for name, (low, high) in {"fragment": fragment, "read": read}.items():
            if not 1 <= low <= high:
                raise ValueError(f"{name}={(low, high)}: a range of lengths must rise from 1 or more")
        if read[1] > fragment[0]:
            raise ValueError(f"read={read} may be longer than fragment={fragment}: reads are drawn inside fragments")
        for name, share in {"noisy": noisy, "reverse": reverse}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share} must lie in 0..1")
        if count < 1:
            raise ValueError(f"count {count} must be at least 1")
        self.reference, self.count, self.seed = as_reference(reference), count, seed
        self.fragment, self.read = fragment, read
        self.noisy, self.reverse = noisy, reverse
        self.rates = Rates(substitutions, insertions, deletions)
        self._cells = list(cells(self.reference, 4 * fragment[1], read[1]))
        if not self._cells:
            raise ValueError(f"every contig is shorter than the longest read, {read[1]} bases")
        self._ends = np.cumsum([cell.end - cell.start for cell in self._cells])

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """Twenty pairs from a small random genome."""
        letters = counted(7, 0).choice(list("ACGT"), 4000)
        (folder / "genome.fa").write_text(">tiny\n" + "".join(letters) + "\n", "utf-8")
        return cls(folder / "genome.fa", 20, fragment=(80, 120), read=(30, 40))

    @property
    def towers(self) -> tuple[str, ...]:
        """`fragment` and `read`."""
        return ("fragment", "read")

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(self.count))

    def __getitem__(self, position: int) -> Record:
        if not -self.count <= position < self.count:
            raise IndexError(f"record {position}: the source has {self.count}")
        number = position % self.count
        random = counted(self.seed, number)
        for _ in range(_TRIES):
            found = self._draw(random)
            if found is not None:
                cell, extra, fragment, read = found
                break
        else:
            raise ValueError(f"record {number}: {_TRIES} reads drawn, all with N: the reference has hardly any bases")
        if random.random() < self.noisy:
            read = mutate(read, self.rates, random)
        if random.random() < self.reverse:
            read, extra["strand"] = reverse_complement(read), "-"
        name = f"{cell.contig}:{cell.start}-{cell.end}"
        return Record({"fragment": fragment, "read": read}, id=str(number), group=name, label=name, extra=extra)

    def _draw(self, random: np.random.Generator) -> tuple[Cell, dict[str, Any], str, str] | None:
        """A cell, where the read lies, fragment and read; None if the read has an N."""
        cell = self._cells[int(np.searchsorted(self._ends, random.integers(self._ends[-1]), side="right"))]
        room = cell.end - cell.start
        size = min(int(random.integers(self.fragment[0], self.fragment[1] + 1)), room)
        length = int(random.integers(self.read[0], self.read[1] + 1))
        start = cell.start + int(random.integers(room - size + 1))
        at = start + int(random.integers(size - length + 1))
        text = self.reference.contigs[cell.contig]
        read = text[at : at + length]
        if "N" in read:
            return None
        extra = {"contig": cell.contig, "start": at, "end": at + length, "strand": "+", "fragment": start}
        return cell, extra, text[start : start + size], read


def cells(reference: Reference, size: int, least: int) -> Iterator[Cell]:
    """Contigs of at least `least` bases in even stretches of about `size`.

    >>> [(cell.start, cell.end) for cell in cells(Reference({"one": "A" * 25, "two": "ACG"}), 10, 4)]
    [(0, 12), (12, 25)]
    """
    for name, text in reference.contigs.items():
        if len(text) < least:
            continue
        count = max(1, len(text) // size)
        ends = [len(text) * i // count for i in range(count + 1)]
        yield from (Cell(name, start, end) for start, end in pairwise(ends))
