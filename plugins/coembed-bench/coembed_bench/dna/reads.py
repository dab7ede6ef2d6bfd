"""Reads whose origin is known: ART's, by its own program, and ours with chosen errors."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coembed_bench.report import Failed

if TYPE_CHECKING:
    from coembed_dna.esa.reads import Read
    from coembed_dna.esa.reference import Reference

__all__ = ["Place", "ReadSet", "art", "noisy", "places", "write_fasta", "write_fastq"]

ART_PROFILES = {100: "HS25", 150: "HS25", 250: "MSv3"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a read starts, counted from 0, on which strand; `end` is excluded, -1 where it is not known."""

    contig: str
    start: int
    strand: str
    end: int = -1


@dataclass(frozen=True)
class ReadSet:
    """Reads of one case with their true places."""

    case: str
    reads: Sequence[Read]
    truth: dict[str, Place]


def places(lines: Iterator[str]) -> Iterator[tuple[str, Place]]:
    """The reads of a SAM file that have a place, by name; their starts are those of the whole read.

    Clipped bases are counted back, so that a clipped end is no shift. Secondary and supplementary lines are left out.

    >>> line = "one\\t16\\tc\\t11\\t60\\t3S7M\\t*\\t0\\t0\\tACGT\\t*"
    >>> dict(places(iter(["@HD\\tVN:1.6", line])))
    {'one': Place(contig='c', start=7, strand='-', end=17)}
    """
    from coembed_dna.esa import cigar

    for line in lines:
        if line.startswith("@"):
            continue
        name, flag, contig, at, _, text = line.split("\t")[:6]
        if int(flag) & 0x904 or text == "*":
            continue
        ops = cigar.parse(text)
        before = ops[0][0] if ops[0][1] in "SH" else 0
        start = int(at) - 1 - before
        yield name, Place(contig, start, "-" if int(flag) & 16 else "+", int(at) - 1 + cigar.spans(ops)[1])


def art(reference: Reference, offsets: dict[str, int], length: int, count: int, folder: Path, seed: int = 7) -> ReadSet:
    """About `count` reads by ART, with the errors and qualities of Illumina's machines, from both strands.

    `offsets` say where the contigs of `reference` begin in the whole genome, in which the truth is counted. Reads are
    those of the FASTQ file: the SAM file has them turned to the reference's strand already.
    """
    from coembed_dna.esa.reads import stream_reads

    if shutil.which("art_illumina") is None:
        raise Failed(
            "reads are simulated by ART: apt install art-nextgen-simulation-tools art-nextgen-simulation-tools-profiles"
        )
    fasta, stem = folder / "art.fa", folder / f"art{length}"
    write_fasta(reference, fasta)
    fold = count * length / reference.total
    command = ["art_illumina", "-q", "-sam", "-na", "-ss", ART_PROFILES[length], "-l", str(length), "-f", f"{fold:.6f}"]
    command += ["-rs", str(seed), "-i", str(fasta), "-o", str(stem)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"art_illumina: {(done.stderr or done.stdout).strip()[-200:]}")
    with stem.with_suffix(".sam").open() as lines:
        truth = {
            name: Place(at.contig, at.start + offsets[at.contig], at.strand, at.end + offsets[at.contig])
            for name, at in places(lines)
        }
    return ReadSet(f"ART {length}", list(stream_reads(stem.with_suffix(".fq"))), truth)


def noisy(
    reference: Reference, offsets: dict[str, int], length: int, count: int, substitutions: float, indels: float
) -> ReadSet:
    """Reads with errors at stated rates a base, `indels` half insertions and half deletions, from both strands."""
    from coembed_dna.esa.reads import Read
    from coembed_dna.fragments import FragmentReads

    half = indels / 2
    source = FragmentReads(
        reference,
        count,
        fragment=(2 * length, 2 * length),
        read=(length, length),
        noisy=1,
        substitutions=(substitutions, substitutions),
        insertions=(half, half),
        deletions=(half, half),
        seed=11,
    )
    reads, truth = [], {}
    for record in source:
        at, offset = record.extra, offsets[record.extra["contig"]]
        reads.append(Read(record.id, record["read"], "I" * len(record["read"])))
        truth[record.id] = Place(at["contig"], at["start"] + offset, at["strand"], at["end"] + offset)
    return ReadSet(f"{length}, {substitutions:.0%} sub, {indels:.0%} indel", reads, truth)


def write_fasta(reference: Reference, path: Path) -> None:
    """A reference as a FASTA file."""
    path.write_text("".join(f">{name}\n{text}\n" for name, text in reference.contigs.items()), "ascii")


def write_fastq(reads: Sequence[Read], path: Path) -> None:
    """Reads as a FASTQ file."""
    lines = (f"@{read.name}\n{read.bases}\n+\n{read.quality or 'I' * len(read.bases)}\n" for read in reads)
    path.write_text("".join(lines), "ascii")
