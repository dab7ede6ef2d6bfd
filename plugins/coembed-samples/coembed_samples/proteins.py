"""`samples/proteins`: proteins of three genera of bacteria beside the names of what they do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self

from coembed.sources import Record, Source
from coembed_samples import fetch
from coembed_samples.families import families
from coembed_samples.fasta import read_fasta

UNNAMED = ("", "hypothetical protein")


class Protein(NamedTuple):
    """One entry: genus, accession, EC number, gene, product, sequence, and the first id of its family."""

    genus: str
    accession: str
    ec: str
    gene: str
    product: str
    sequence: str
    family: str

    @property
    def id(self) -> str:
        """Genus and accession."""
        return f"{self.genus}/{self.accession}"


class Proteins(Source):
    """Proteins and what they are called: `protein` is the sequence, `text` the product ("chaperone protein DnaK").

    10,872 different sequences of Enterococcus, Escherichia and Staphylococcus from Debian's prokka; those called
    "hypothetical protein" are left out. Fetch them with `coembed-samples fetch proteins`, or give the `folder` of
    FASTA files, headers as `id EC~~~gene~~~product`.

    `group` is a family: proteins of one product, one gene or much the same sequence are one, and links chain. So a
    held-out protein's product stands nowhere in training, but parts of its name and far relatives do.
    `extra` has `gene`, `ec` and `genus`.

    Raises NotFetched naming the command if the set is not there, ValueError for a header of another form.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder) if folder is not None else fetch.folder("proteins")

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """Four made-up proteins of two families."""
        lines = [">t1 1.1.1.1~~~abcA~~~first thing", "MKVLAAGTPW", ">t2 ~~~abcA2~~~second thing", "MLLYHRTPQA",
                 ">t3 ~~~~~~third thing", "MNNDEEFFGG", ">t4 ~~~~~~third thing", "MAAAWWYYTT"]  # fmt: skip
        (folder / "Tiny.fasta").write_text("\n".join(lines) + "\n", "utf-8")
        return cls(folder)

    def __len__(self) -> int:
        return len(proteins(self.folder))

    def __iter__(self) -> Iterator[Record]:
        for protein in proteins(self.folder):
            yield Record(
                {"protein": protein.sequence, "text": protein.product},
                id=protein.id,
                group=protein.family,
                extra={"gene": protein.gene, "ec": protein.ec, "genus": protein.genus},
            )


@lru_cache(maxsize=4)
def proteins(folder: Path) -> tuple[Protein, ...]:
    """The named proteins in a folder of FASTA files, each sequence once, in order of files and entries.

    Raises ValueError for a header of another form.
    """
    rows: list[Protein] = []
    seen: set[str] = set()
    for path in sorted(folder.glob("*.fasta")):
        for header, sequence in read_fasta(path):
            accession, _, facts = header.partition(" ")
            fields = facts.split("~~~")
            if len(fields) != 3:
                raise ValueError(f"{path}: the header {header[:60]!r} is not of the form 'id EC~~~gene~~~product'")
            ec, gene, product = (field.strip() for field in fields)
            if product.lower() not in UNNAMED and sequence not in seen:
                seen.add(sequence)
                rows.append(Protein(path.stem, accession, ec, gene, product, sequence, ""))
    if not rows:
        raise ValueError(f"{folder} holds no named protein in *.fasta files")
    named = families(*zip(*((row.id, row.gene, row.product, row.sequence) for row in rows), strict=True))
    return tuple(row._replace(family=family) for row, family in zip(rows, named, strict=True))
