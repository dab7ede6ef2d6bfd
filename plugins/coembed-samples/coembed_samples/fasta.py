"""FASTA files, gzipped or not, as headers and sequences."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def text_lines(path: Path) -> IO[str]:
    """A text file opened for reading, through gzip if it is named so."""
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def read_fasta(path: Path) -> Iterator[tuple[str, str]]:
    """Header (without ">") and sequence of each entry, letters as they stand.

    Raises ValueError for a sequence before the first header.
    """
    header: str | None = None
    lines: list[str] = []
    with text_lines(path) as file:
        for line in file:
            line = line.strip()
            if line.startswith(">"):
                if header is not None:
                    yield header, "".join(lines)
                header, lines = line[1:], []
            elif line:
                if header is None:
                    raise ValueError(f"{path} is no FASTA file: it begins with {line[:20]!r}")
                lines.append(line)
    if header is not None:
        yield header, "".join(lines)
