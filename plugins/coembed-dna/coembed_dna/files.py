"""Sequence files: FASTA, FASTQ, GenBank and Swiss-Prot, gzipped or not, streamed by Biopython.

The format is read from the content, never from the file's ending: ">" begins FASTA, "@" FASTQ, "LOCUS" GenBank and
"ID   " Swiss-Prot.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from Bio.SeqRecord import SeqRecord

__all__ = ["NAMES", "letters", "opened", "records", "sequences", "stream"]

#: Biopython's name of each format, and its name for people
NAMES = {"fasta": "FASTA", "fastq": "FASTQ", "genbank": "GenBank", "swiss": "Swiss-Prot"}
_BEGINS = {">": "fasta", "@": "fastq", "LOCUS": "genbank", "ID   ": "swiss"}
_GZIP = b"\x1f\x8b"


@contextmanager
def opened(path: Path, formats: tuple[str, ...]) -> Iterator[tuple[TextIO, str]]:
    """A text stream of a sequence file at its first record, and its format.

    Raises ValueError naming the file if it can't be read, is empty or damaged, or is in none of `formats`.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
        with gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as stream:
            yield stream, _format(stream, path, formats)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: can't be read as a sequence file: {why}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: a binary file, not a text of sequences ({error.reason})") from error


def _format(stream: TextIO, path: Path, formats: tuple[str, ...]) -> str:
    """The format that the first line with letters begins; leaves the stream at that line."""
    while True:
        place = stream.tell()
        line = stream.readline(4096)
        if not line:
            raise ValueError(f"{path}: empty, it holds no sequences")
        if line.strip():
            break
    stream.seek(place)
    found = next((kind for start, kind in _BEGINS.items() if line.startswith(start)), None)
    if found is None or found not in formats:
        wanted = ", ".join(NAMES[kind] for kind in formats)
        what = f"begins with {line[:20].strip()!r}" if found is None else f"is {NAMES[found]}"
        raise ValueError(f"{path}: {what}; {wanted} is expected, plain or gzipped")
    return found


def stream(path: Path, formats: tuple[str, ...]) -> Iterator[SeqRecord]:
    """The records of a file, one by one, as Biopython parses them; ValueError names the file and the record."""
    from Bio import SeqIO

    count = 0
    with opened(path, formats) as (handle, kind):
        try:
            for record in SeqIO.parse(handle, kind):
                count += 1
                yield record
        except (ValueError, KeyError, IndexError, AssertionError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise
            raise ValueError(f"{path}: {NAMES[kind]} is broken after record {count}: {error}") from error
    if not count:
        raise ValueError(f"{path}: holds no {NAMES[kind]} records")


def records(path: Path) -> Iterator[SeqRecord]:
    """The records of a FASTA, FASTQ or GenBank file of DNA, one by one: a genome need not fit into memory twice.

    Letters are not looked at here: encoders do. Raises ValueError for a file that can't be read, naming it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "two.fa").write_text(">one\\nACGT\\nAC\\n>two\\nggn\\n")
    ...     [(record.id, str(record.seq)) for record in records(Path(folder, "two.fa"))]
    [('one', 'ACGTAC'), ('two', 'ggn')]
    """
    return stream(path, ("fasta", "fastq", "genbank"))


def letters(record: SeqRecord, path: Path) -> str:
    """The sequence of a record as it stands; ValueError naming file and record where the file leaves it out."""
    from Bio.Seq import UndefinedSequenceError

    try:
        return str(record.seq)
    except UndefinedSequenceError:
        raise ValueError(f"{path}: record {record.id} has no sequence: fetch it with its sequence") from None


def sequences(path: Path) -> list[str]:
    """The sequences of `records`, as encoders take them."""
    return [letters(record, path) for record in records(path)]
