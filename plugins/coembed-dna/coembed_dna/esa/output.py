"""Output: alignments as SAM (v1, section 1) and PAF lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import version

from coembed_dna.esa.reference import Reference
from coembed_dna.esa.refine import Alignment
from coembed_dna.sequence import reverse_complement

__all__ = ["paf", "paf_line", "sam", "sam_line"]

_UNMAPPED, _REVERSE = 4, 16


def sam(alignments: Iterable[Alignment], reference: Reference) -> Iterator[str]:
    """The lines of a SAM file: header, then one line a read, in the order of the reads."""
    yield "@HD\tVN:1.6\tSO:unsorted\tGO:query"
    for name, text in reference.contigs.items():
        yield f"@SQ\tSN:{name}\tLN:{len(text)}"
    yield f"@PG\tID:coembed-dna\tPN:coembed-dna\tVN:{version('coembed-dna')}"
    yield from map(sam_line, alignments)


def sam_line(hit: Alignment) -> str:
    """One read: bases and qualities in the reference's direction, POS counted from 1.

    >>> from coembed_dna.esa.reads import Read
    >>> sam_line(Alignment(Read("one", "ACGT", "IIII"))).split("\\t")[:6]
    ['one', '4', '*', '0', '0', '*']
    """
    bases, quality = hit.read.bases, hit.read.quality or "*"
    name = hit.read.name[:254]
    if hit.contig is None:
        return f"{name}\t{_UNMAPPED}\t*\t0\t0\t*\t*\t0\t0\t{bases}\t{quality}"
    flag = 0
    if hit.strand == "-":
        flag, bases = _REVERSE, reverse_complement(bases)
        quality = quality[::-1]
    place = f"{hit.contig}\t{hit.start + 1}\t{hit.quality}\t{hit.cigar}"
    return f"{name}\t{flag}\t{place}\t*\t0\t0\t{bases}\t{quality}\tNM:i:{hit.edits}\tAS:i:{hit.score}"


def paf(alignments: Iterable[Alignment], reference: Reference) -> Iterator[str]:
    """The lines of a PAF file; reads without a place have none."""
    return (paf_line(hit, reference) for hit in alignments if hit.contig is not None)


def paf_line(hit: Alignment, reference: Reference) -> str:
    """One placed read: places in it and in the contig from 0, end excluded, the read's in its own direction.

    >>> from coembed_dna.esa.reads import Read
    >>> hit = Alignment(Read("one", "TACG"), "c", 0, 3, "-", ((1, "S"), (3, "=")))
    >>> paf_line(hit, Reference({"c": "GTACC"})).split("\\t")[:9]
    ['one', '4', '0', '3', '-', 'c', '5', '0', '3']
    """
    assert hit.contig is not None
    length = len(hit.read.bases)
    before = hit.ops[0][0] if hit.ops[0][1] == "S" else 0
    after = hit.ops[-1][0] if hit.ops[-1][1] == "S" else 0
    start, end = (before, length - after) if hit.strand == "+" else (after, length - before)
    same = sum(count for count, op in hit.ops if op == "=")
    whole = sum(count for count, op in hit.ops if op != "S")
    inner = "".join(f"{count}{op}" for count, op in hit.ops if op != "S")
    read = f"{hit.read.name}\t{length}\t{start}\t{end}\t{hit.strand}"
    place = f"{hit.contig}\t{len(reference.contigs[hit.contig])}\t{hit.start}\t{hit.end}"
    return f"{read}\t{place}\t{same}\t{whole}\t{hit.quality}\tNM:i:{hit.edits}\tAS:i:{hit.score}\tcg:Z:{inner}"
