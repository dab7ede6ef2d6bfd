"""Refine: candidates aligned base by base with edlib; the one with the fewest edits wins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from coembed_dna.esa import cigar
from coembed_dna.esa.reads import Read
from coembed_dna.sequence import reverse_complement

try:
    from edlib import align
except ImportError as error:
    raise ImportError(f"reads are aligned by edlib: pip install 'coembed-dna[align]' ({error})") from error

__all__ = ["Alignment", "Window", "aligned", "mapping_quality"]

_MARGIN = 3  # edits beyond the best that the runner-up is looked for with
_MOST = 60  # SAM's usual ceiling of mapping qualities
_PER_EDIT = 20  # one sequencing error in a hundred
_FEW = 16  # bases an edit in most reads

#: By contig and strand: edits, start, end and the candidate's rank
Hits = dict[tuple[str, int], list[tuple[int, int, int, int]]]


@dataclass(frozen=True, slots=True)
class Window:
    """Where to look: a stretch of a contig, counted from 0, and the strands: 1, -1, or 0 for both."""

    contig: str
    start: int
    end: int
    strand: int = 0


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a read lies, or that it lies nowhere (`contig` is None).

    `start` and `end` are counted from 0, `end` excluded; `strand` is "+" or "-". `ops` are the CIGAR's operations in
    the reference's direction, `edits` SAM's NM. `score` is twice the read's aligned bases less 3 an edit: 2 * length
    if and only if the read stands there letter for letter. `runner_up` is how many edits more the best other place
    needs (None: no other was near). `candidate` is the rank of the candidate that won, from 0.
    """

    read: Read
    contig: str | None = None
    start: int = 0
    end: int = 0
    strand: str = "+"
    ops: tuple[tuple[int, str], ...] = ()
    edits: int = 0
    runner_up: int | None = None
    places: int = 1
    candidate: int = 0

    @property
    def cigar(self) -> str:
        """The operations as text, * for none."""
        return cigar.write(list(self.ops)) or "*"

    @property
    def score(self) -> int:
        """The alignment's score; 0 for none."""
        return 2 * sum(count for count, op in self.ops if op in "=XI") - 3 * self.edits if self.contig else 0

    @property
    def quality(self) -> int:
        """The mapping quality, 0..60."""
        return 0 if self.contig is None else mapping_quality(self.runner_up, self.places)


def mapping_quality(runner_up: int | None, places: int) -> int:
    """Minus ten times the logarithm of the chance that the place is wrong, capped at 60.

    20 for each edit that the next best place needs more; where `places` are equally good, what a guess among them has.

    >>> mapping_quality(None, 1), mapping_quality(1, 1), mapping_quality(0, 2), mapping_quality(0, 9)
    (60, 20, 3, 1)
    """
    if runner_up is None:
        return _MOST
    return min(_MOST, _PER_EDIT * runner_up) if runner_up else {2: 3, 3: 2}.get(places, 1)


def aligned(read: Read, windows: Sequence[Window], contigs: dict[str, str], limit: int) -> Alignment:
    """The best alignment of a whole read in any of the windows, with `limit` edits at most.

    Edits are counted first, in bands that narrow as better places are found, so that hopeless windows end early; the
    operations are found for the winner alone. Equal places: the first window, and in it the leftmost.
    """
    strands = {1: read.bases, -1: reverse_complement(read.bases)}
    few = len(read.bases) // _FEW
    found, best = _search(strands, windows, contigs, min(few, limit), limit)
    if best > few:  # seldom: most reads have few errors, and windows without the read end sooner in a narrow band
        found, _ = _search(strands, windows, contigs, limit, limit)
    if not found:
        return Alignment(read)
    loci = sorted(_loci(found, len(read.bases)))
    edits, rank, start, end, contig, strand = loci[0]
    near = loci[1][0] - edits if len(loci) > 1 else None
    ties = sum(locus[0] == edits for locus in loci)
    text = contigs[contig]
    path = align(strands[strand], text[start:end], mode="NW", task="path", k=edits)["cigar"]
    ops, start = cigar.settle(cigar.parse(path), strands[strand], text, start)
    return Alignment(
        read,
        contig,
        start,
        start + cigar.spans(ops)[1],
        "+" if strand > 0 else "-",
        tuple(ops),
        cigar.edits(ops),
        near,
        ties,
        rank,
    )


def _search(
    strands: dict[int, str], windows: Sequence[Window], contigs: dict[str, str], most: int, limit: int
) -> tuple[Hits, int]:
    """Places with `most` edits at most, or up to the margin more, and the fewest edits seen (`limit` + 1: none)."""
    found: Hits = {}
    best = limit + 1
    for rank, window in enumerate(windows):
        target = contigs[window.contig][window.start : window.end]
        for strand in (1, -1) if window.strand == 0 else (window.strand,):
            bound = min(limit, min(best, most) + _MARGIN)
            result = align(strands[strand], target, mode="HW", task="locations", k=bound)
            edits = result["editDistance"]
            if edits >= 0:
                best = min(best, edits)
                hits = [(edits, window.start + a, window.start + b + 1, rank) for a, b in _places(result["locations"])]
                found.setdefault((window.contig, strand), []).extend(hits)
    return found, best


def _places(locations: list[tuple[int | None, int]]) -> list[tuple[int, int]]:
    """Starts and ends of an edlib result; a read that is put in as a whole has no start."""
    return [(start, end) for start, end in locations if start is not None and start <= end]


def _loci(found: Hits, length: int) -> Iterable[Any]:
    """Distinct places, each by its best alignment: (edits, rank, start, end, contig, strand).

    Alignments of one strand that begin within half a read of each other are one place.
    """
    for (contig, strand), hits in found.items():
        kept: list[tuple[int, int, int, int]] = []
        for edits, start, end, rank in sorted(hits, key=lambda hit: (hit[0], hit[3], hit[1])):
            if all(abs(start - other[1]) > length // 2 for other in kept):
                kept.append((edits, start, end, rank))
        yield from ((edits, rank, start, end, contig, strand) for edits, start, end, rank in kept)
