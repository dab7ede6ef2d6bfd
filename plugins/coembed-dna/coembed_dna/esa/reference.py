"""Reference: the contigs that reads are drawn from and mapped to, cleaned, and known again by their digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from coembed.items import BadItem
from coembed_dna import sequence
from coembed_dna.files import letters, records

__all__ = ["Reference", "as_reference"]

_NAME = re.compile(r"[0-9A-Za-z!#$%&+./:;?@^_|~-][0-9A-Za-z!#$%&*+./:;=?@^_|~-]*")  # what SAM allows


@dataclass(frozen=True)
class Reference:
    """Contigs by name, in the order of their file; ambiguity codes are N, as `coembed_dna.sequence` says.

    Raises ValueError for no contigs, a name that SAM does not allow, or a contig without letters.

    >>> Reference({"one": "acgtRN"}).contigs["one"], Reference({"one": "acgtRN"}).total
    ('ACGTNN', 6)
    """

    contigs: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.contigs:
            raise ValueError("a reference needs at least one contig")
        cleaned = {}
        for place, (name, text) in enumerate(self.contigs.items()):
            if not _NAME.fullmatch(name):
                raise ValueError(f"contig name {name!r} can't stand in a SAM file: use letters, digits, '.', '_', '-'")
            try:
                cleaned[name] = sequence.clean(text, place)
            except BadItem as error:
                raise ValueError(f"contig {name}: got {error.got}, expected {error.expected}") from error
        object.__setattr__(self, "contigs", cleaned)

    @classmethod
    def read(cls, path: Path | str) -> Reference:
        """The records of a FASTA or GenBank file, gzipped or not; ValueError names file and contig that can't be."""
        found: dict[str, str] = {}
        for record in records(Path(path)):
            name = str(record.id)
            if name in found:
                raise ValueError(f"{path}: two contigs are named {name!r}: reads could not be told apart")
            found[name] = letters(record, Path(path))
        try:
            return cls(found)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @property
    def total(self) -> int:
        """Bases of all contigs together."""
        return sum(map(len, self.contigs.values()))

    @cached_property
    def digest(self) -> str:
        """What tells another reference from this one: a hash of names and bases, in order."""
        digest = hashlib.blake2b(digest_size=16)
        for name, text in self.contigs.items():
            digest.update(f">{name}\n{text}\n".encode())
        return digest.hexdigest()

    def part(self, start: float, end: float) -> Reference:
        """The share start..end of each contig, such as the half to train on.

        >>> Reference({"one": "AACCGGTT"}).part(0.5, 1).contigs
        {'one': 'GGTT'}
        """
        if not 0 <= start < end <= 1:
            raise ValueError(f"part({start}, {end}): shares must rise within 0..1")
        cut = {name: text[round(start * len(text)) : round(end * len(text))] for name, text in self.contigs.items()}
        return Reference({name: text for name, text in cut.items() if text})


def as_reference(given: Reference | Mapping[str, str] | Path | str) -> Reference:
    """A reference from itself, from sequences by name, or from a file.

    >>> as_reference({"one": "ACGT"}).total
    4
    """
    if isinstance(given, Reference):
        return given
    return Reference(given) if isinstance(given, Mapping) else Reference.read(given)
