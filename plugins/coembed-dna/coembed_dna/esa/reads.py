"""Reads: names, bases and qualities, streamed from FASTQ and FASTA files or made from what a caller has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coembed.items import BadItem
from coembed_dna import sequence
from coembed_dna.files import opened

__all__ = ["BadRead", "OnBadRead", "Read", "cleaned", "stream_reads"]


class BadRead(ValueError):
    """A read that is none; the message names it and says what is wrong."""


OnBadRead = Literal["raise"] | Callable[[BadRead], None]


@dataclass(frozen=True, slots=True)
class Read:
    """A read as a file has it: its name, its bases, and its qualities as FASTQ writes them (None: not known)."""

    name: str
    bases: str
    quality: str | None = None


def stream_reads(path: Path | str) -> Iterator[Read]:
    """The reads of a FASTQ or FASTA file, gzipped or not, one by one; names end at the first blank.

    Raises ValueError naming the file, and the last good read where it is broken.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.fq").write_text("@one x\\nACGT\\n+\\nIIII\\n")
    ...     list(stream_reads(Path(folder, "a.fq")))
    [Read(name='one', bases='ACGT', quality='IIII')]
    """
    from Bio.SeqIO.FastaIO import SimpleFastaParser
    from Bio.SeqIO.QualityIO import FastqGeneralIterator

    last, count = "", 0
    with opened(Path(path), ("fastq", "fasta")) as (handle, kind):
        parsed: Iterable[tuple[str, ...]]
        parsed = FastqGeneralIterator(handle) if kind == "fastq" else SimpleFastaParser(handle)
        try:
            for title, bases, *quality in parsed:
                last = title.partition(" ")[0].partition("\t")[0]
                count += 1
                yield Read(last or f"read{count}", bases, quality[0] if quality else None)
        except ValueError as error:
            if isinstance(error, (UnicodeDecodeError, BadRead)):
                raise
            after = f"after read {count}, {last!r}" if count else "at its first read"
            raise ValueError(f"{path}: broken {after}: {error}") from error


def cleaned(items: Iterable[Any], on_error: OnBadRead = "raise") -> Iterator[Read]:
    """Items as reads in the letters ACGTN: a `Read`, or a str, Seq or SeqRecord; what has no name gets a number.

    Raises BadRead for one by the rules of `coembed_dna.sequence`, or calls `on_error` with it and leaves it out.

    >>> [read.bases for read in cleaned(["acgu", Read("two", "AC-T")], on_error=print)]
    read 'two' (number 2): got gaps '-' in str 'AC-T', the first at 2, expected a DNA sequence without gaps
    ['ACGT']
    """
    for number, item in enumerate(items, 1):
        read = item if isinstance(item, Read) else None
        name = read.name if read else str(getattr(item, "id", None) or f"read{number}")
        try:
            bases = sequence.clean(read.bases if read else item, number - 1)
            quality = read.quality if read else None
            if quality is not None and len(quality) != len(bases):
                raise BadItem(number - 1, f"{len(quality)} qualities for {len(bases)} bases", "one a base")
        except BadItem as error:
            bad = BadRead(f"read {name!r} (number {number}): got {error.got}, expected {error.expected}")
            if on_error == "raise":
                raise bad from error
            on_error(bad)
            continue
        yield Read(name, bases, quality)
