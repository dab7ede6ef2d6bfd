"""Protein files: FASTA, Swiss-Prot, and the translations of a GenBank record's coding sequences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from coembed_dna.files import letters, opened, stream

if TYPE_CHECKING:
    from Bio.SeqRecord import SeqRecord

__all__ = ["records", "sequences"]

_FORMATS = ("fasta", "swiss", "genbank")


def records(path: Path) -> Iterator[SeqRecord]:
    """The proteins of a FASTA, Swiss-Prot or GenBank file, plain or gzipped, one by one.

    Of a GenBank file of DNA these are the `/translation`s of its coding sequences, by protein_id or locus_tag, with the
    product as description; of a GenBank file of proteins the sequences themselves. Coding sequences without a
    translation (pseudogenes) are left out. Raises ValueError naming the file if it can't be read or has no proteins.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "one.faa").write_text(">one\\nMKV\\n")
    ...     [str(record.seq) for record in records(Path(folder, "one.faa"))]
    ['MKV']
    """
    with opened(path, _FORMATS) as (_, kind):
        pass
    if kind != "genbank":
        yield from stream(path, _FORMATS)
        return
    found = False
    for record in stream(path, _FORMATS):
        proteins = [record] if record.annotations.get("molecule_type") == "protein" else _translations(record)
        for protein in proteins:
            found = True
            yield protein
    if not found:
        raise ValueError(f"{path}: no coding sequence (CDS) of it has a /translation")


def _translations(record: SeqRecord) -> Iterator[SeqRecord]:
    from Bio.Seq import Seq
    from Bio.SeqRecord import SeqRecord as Made

    for number, feature in enumerate(part for part in record.features if part.type == "CDS"):
        said = feature.qualifiers
        if "translation" in said:
            names = (said[key][0] for key in ("protein_id", "locus_tag", "gene") if key in said)
            name = next(names, f"{record.id}_cds{number + 1}")
            product = said.get("product", [""])[0]
            yield Made(Seq(said["translation"][0]), id=name, name=name, description=product)


def sequences(path: Path) -> list[str]:
    """The sequences of `records`, as encoders take them."""
    return [letters(record, path) for record in records(path)]
