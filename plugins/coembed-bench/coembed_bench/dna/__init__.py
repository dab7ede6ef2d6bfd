"""Reads on a genome by their vectors, beside bowtie2, bwa mem and minimap2 on the same reads.

The encoder trains on the first half of the genome; all reads come from the second half, all systems index the whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed_bench.dna.ours import Settings, measure, train, transformer
from coembed_bench.dna.peers import PEERS
from coembed_bench.dna.reads import ReadSet, art, noisy, write_fasta, write_fastq
from coembed_bench.dna.score import strict
from coembed_bench.report import Aim, Failed, Report

if TYPE_CHECKING:
    from coembed_dna.esa.mapper import Mapper
    from coembed_dna.esa.reference import Reference

__all__ = ["run"]

NEAR_AIM, RATE_AIM, TRAINED_AIM = 1.0, 1000.0, 5.0
JUDGED = "ART 150"
LENGTHS = (100, 150, 250)
ERRORS = ((0.05, 0.0), (0.0, 0.02), (0.05, 0.04))  # substitutions, indels
GENOMES = {"E. coli MG1655": "MG1655-K12", "H. pylori G27": "G27"}
SPARSE = "k-mers, sparse"  # what Mapper.build takes by default
DEEP = 50  # candidates aligned for dense vectors
Rows = list[dict[str, Any]]


def run(quick: bool = False) -> Report:
    """Measure every system on the same reads; raises Failed if genome, ART or edlib is missing."""
    name = "H. pylori G27" if quick else "E. coli MG1655"
    reference = genome(GENOMES[name])
    settings = Settings(steps=120) if quick else Settings()
    with tempfile.TemporaryDirectory() as folder:
        cases = list(read_sets(reference, Path(folder), 2000 if quick else 8000))
        rows = _ours(reference, settings, cases, 200 if quick else 500)
        rows += _peers(reference, cases, Path(folder))
    return Report("dna", rows, aims(rows), None, ("coembed-dna", "edlib", "scipy", "torch"), {"index": "MB"})


def genome(name: str) -> Reference:
    """A genome of the fetched set; raises Failed naming the command that fetches it."""
    try:
        import edlib  # noqa: F401

        from coembed_dna.esa.reference import Reference
        from coembed_samples import fetch

        return Reference.read(fetch.folder("genomes") / f"{name}.fasta.gz")
    except ImportError as error:
        raise Failed(f"pip install 'coembed-bench[dna]' ({error})") from error
    except FileNotFoundError as error:
        raise Failed(str(error)) from error


def read_sets(reference: Reference, folder: Path, count: int) -> Sequence[ReadSet]:
    """The cases: ART's reads of each length, then 150 bases with more errors, all from the genome's second half."""
    half = reference.part(0.5, 1.0)
    offsets = {name: len(text) - len(half.contigs[name]) for name, text in reference.contigs.items()}
    return [
        *(art(half, offsets, length, count, folder) for length in LENGTHS),
        *(noisy(half, offsets, 150, count // 4, *rates) for rates in ERRORS),
    ]


def _ours(reference: Reference, settings: Settings, cases: Sequence[ReadSet], few: int) -> Rows:
    """The rows of our systems; dense vectors see the first `few` reads of each case."""
    import coembed
    from coembed_dna.esa.mapper import Mapper

    half = reference.part(0.0, 0.5)
    tiles: dict[str, Any] = {"fragment": settings.tile, "step": settings.step}
    wide = f"{settings.dim} d"
    encoder = transformer(settings, half)
    rows = _rows(f"untrained, {wide}", Mapper.build(reference, encoder, **tiles), cases, DEEP, few)
    seconds = train(encoder, settings, half)
    note = f"{settings.steps} steps of {settings.batch} pairs, {seconds:.0f} CPU s"
    rows += _rows(f"trained, {wide}", Mapper.build(reference, encoder, **tiles), cases, DEEP, few, note)
    kmers: Any = coembed.load("dna/kmer", k=8, dim=settings.dim)
    kmers.fit(
        [text[i : i + settings.tile] for text in half.contigs.values() for i in range(0, len(text), settings.tile)]
    )
    dense = Mapper.build(reference, kmers, index="exact", **tiles)
    rows += _rows(f"k-mers, {wide}", dense, cases, DEEP, few, "8-mers hashed")
    return rows + _rows(SPARSE, Mapper.build(reference), cases, 5, None, "11-mers, 262,144 columns")


def _rows(system: str, mapper: Mapper, cases: Sequence[ReadSet], k: int, count: int | None, note: str = "") -> Rows:
    """One system's rows, one a case."""
    return [
        {
            "system": system,
            "case": case.case,
            **measure(mapper, case, k, count),
            "index": mapper.candidates.nbytes / 1e6,
            "note": note,
        }
        for case in cases
    ]


def _peers(reference: Reference, cases: Sequence[ReadSet], folder: Path) -> Rows:
    """The rows of the peers; one that is not installed has a row that says so."""
    fasta = folder / "whole.fa"
    write_fasta(reference, fasta)
    files = []
    for number, case in enumerate(cases):
        files.append(folder / f"case{number}.fq")
        write_fastq(case.reads, files[-1])
    rows: Rows = []
    for peer in PEERS:
        if peer.missing:
            rows.append({"system": peer.name, "case": "-", "note": peer.missing})
            continue
        size = peer.index(fasta, folder)
        for case, file in zip(cases, files, strict=True):
            found, seconds = peer.align(file, folder)
            figures = {"strict": strict(found, case.truth), "reads/CPU-s": len(case.reads) / seconds}
            row = {"system": peer.name, "case": case.case, **figures, "reads": len(case.reads), "index": size / 1e6}
            rows.append(row)
    return rows


def aims(rows: Rows) -> list[Aim]:
    """What was promised of the rows.

    >>> [aim.value for aim in aims([])]
    [None, None, None]
    """
    at = {row["system"]: row for row in rows if row["case"] == JUDGED}
    ours, peer = at.get(SPARSE), at.get("bowtie2")
    trained, untrained = (
        next((row for name, row in at.items() if name.startswith(word)), None) for word in ("trained", "untrained")
    )
    behind = 100 * (peer["strict"] - ours["strict"]) if ours and peer else None
    times = trained["R@1"] / max(untrained["R@1"], 1e-9) if trained and untrained else None
    return [
        Aim("points of strict accuracy behind bowtie2, 150 bases", behind, NEAR_AIM),
        Aim("reads a second of one core, 150 bases", ours["reads/CPU-s"] if ours else None, RATE_AIM, least=True),
        Aim("recall@1 of the trained encoder over the untrained, 150 bases", times, TRAINED_AIM, least=True),
    ]
