"""`samples/triples`: genes of one E. coli genome as DNA, protein and product."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Self

from coembed.sources import Record, Source
from coembed_samples import fetch
from coembed_samples.fasta import read_fasta
from coembed_samples.proteins import Protein, proteins
from coembed_samples.translate import Gene, coding, locate, reverse_complement

GENOME = "MG1655-K12"
GENUS = "Escherichia"


class Triples(Source):
    """Genes of E. coli K-12 MG1655: `dna` from start to stop codon, `protein`, and `text`, the product.

    The proteins of `samples/proteins` that are Escherichia's and whose sequence the genome translates to, some 4,100:
    one is found where a six-frame translation has it, residue by residue but for the first. Both sets are fetched:
    `coembed-samples fetch genomes proteins`; or give the folders of genome and proteins.

    `id` and `group` are those of `samples/proteins`, so that a split of either holds for both. `extra` has `gene`,
    `ec`, and `start`, `end` and `strand` in the genome, counted from 0 with `end` excluded.

    Raises NotFetched naming the command if a set is not there.
    """

    def __init__(self, genome: Path | str | None = None, proteins: Path | str | None = None) -> None:
        self.genome = Path(genome) if genome is not None else fetch.folder("genomes")
        self.proteins = Path(proteins) if proteins is not None else fetch.folder("proteins")

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """A made-up genome with two genes, one on either strand."""
        first, second = "ATG" + "AAACTGGTTGCA" * 6 + "TAA", "GTG" + "CCGGATACCTGG" * 6 + "TGA"
        parts = folder / "genome", folder / "proteins"
        for part in parts:
            part.mkdir()
        (parts[0] / f"{GENOME}.fasta").write_text(f">tiny\nCCTA{first}ACG{reverse_complement(second)}TTA\n", "utf-8")
        lines = [">t1 ~~~abcA~~~first thing", "M" + "KLVA" * 6, ">t2 ~~~defB~~~second thing", "M" + "PDTW" * 6]
        (parts[1] / f"{GENUS}.fasta").write_text("\n".join(lines) + "\n", "utf-8")
        return cls(*parts)

    def __len__(self) -> int:
        return len(_found(self.genome, self.proteins)[1])

    def __iter__(self) -> Iterator[Record]:
        genome, found = _found(self.genome, self.proteins)
        for protein, gene in found:
            yield Record(
                {"dna": coding(genome, gene), "protein": protein.sequence, "text": protein.product},
                id=protein.id,
                group=protein.family,
                extra={"gene": protein.gene, "ec": protein.ec, **gene._asdict()},
            )


@lru_cache(maxsize=2)
def _found(genome_folder: Path, protein_folder: Path) -> tuple[str, list[tuple[Protein, Gene]]]:
    """The genome, and the proteins that have their DNA in it."""
    files = sorted(genome_folder.glob(f"{GENOME}.fasta*"))
    if not files:
        raise FileNotFoundError(f"{genome_folder} has no {GENOME}.fasta: run `coembed-samples fetch genomes --again`")
    genome = "".join(sequence for _, sequence in read_fasta(files[0])).upper()
    known = [protein for protein in proteins(protein_folder) if protein.genus == GENUS]
    places = locate(genome, [protein.sequence for protein in known])
    return genome, [(protein, gene) for protein, gene in zip(known, places, strict=True) if gene is not None]
