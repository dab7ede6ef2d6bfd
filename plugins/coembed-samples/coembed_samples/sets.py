"""The sets that can be fetched: which packages, which of their files, and what is counted in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from coembed_samples import counts


@dataclass(frozen=True)
class Part:
    """What a set takes of one package.

    `client` is "deb" or "npm", `version` a pin ("": whatever the client offers). `files` maps a pattern of paths in the
    package to the name here, in which `\\1` is the pattern's first group, and so on.
    """

    client: str
    package: str
    files: Mapping[str, str]
    version: str = ""


@dataclass(frozen=True)
class FetchedSet:
    """A set of data: its parts, `count` (a folder to numbers) and the numbers that were seen when this was written."""

    name: str
    summary: str
    license: str
    parts: tuple[Part, ...]
    count: Callable[[Path], dict[str, int]]
    expected: Mapping[str, int] = field(default_factory=dict)


def _deb(package: str, files: Mapping[str, str]) -> Part:
    """A Debian package's files, and the statement of their licence."""
    return Part("deb", package, {**files, rf"usr/share/doc/{package}/(copyright)": rf"\1-{package}"})


_GENOMES = {
    "MG1655-K12": 4_639_675, "DH1": 4_630_707,
    "ELS37": 1_664_587, "G27": 1_652_982, "Gambia94_24": 1_709_911, "Puno120": 1_624_979, "SJM180": 1_658_051,
    "COL": 2_809_422, "JKD6008": 2_924_344, "N315": 2_814_816, "RF122": 2_742_531, "USA300_FPR3757": 2_872_769,
    "H1": 4_089_020, "O1_Inaba": 4_202_811, "O1_biovar": 4_033_464, "O395": 4_135_300,
}  # fmt: skip

SETS: dict[str, FetchedSet] = {
    one.name: one
    for one in (
        FetchedSet(
            name="genomes",
            summary="16 bacterial genomes: E. coli MG1655 and DH1, five H. pylori, five S. aureus, four V. cholerae",
            license="public records",
            parts=(
                _deb(
                    "ragout-examples",
                    {r"usr/share/doc/ragout/examples/[^/]+/references/([\w-]+\.fasta\.gz)": r"\1"},
                ),
            ),
            count=counts.letters,
            expected=_GENOMES,
        ),
        FetchedSet(
            name="ecoli536",
            summary="the genome of E. coli 536 (NC_008253)",
            license="public record",
            parts=(_deb("bowtie-examples", {r"usr/share/doc/bowtie/examples/genomes/([\w.]+\.fna\.gz)": r"\1"}),),
            count=counts.letters,
            expected={"NC_008253": 4_938_920},
        ),
        FetchedSet(
            name="proteins",
            summary="proteins of three genera of bacteria with gene, EC number and product",
            license="unclear for the names: for benchmarks only",
            parts=(_deb("prokka", {r"usr/share/prokka/db/genus/(\w+)": r"\1.fasta"}),),
            count=counts.entries,
            expected={"Enterococcus": 3_104, "Escherichia": 4_209, "Staphylococcus": 3_652},
        ),
        FetchedSet(
            name="uniprot",
            summary="20,000 UniProt sequences with their descriptions",
            license="CC-BY-4.0",
            parts=(_deb("mmseqs2-examples", {r"usr/share/doc/mmseqs2/example-data/(DB\.fasta\.gz)": r"\1"}),),
            count=counts.entries,
            expected={"DB": 20_000},
        ),
        FetchedSet(
            name="wordnet",
            summary="WordNet 3.0: sets of synonyms, their glosses and the relations between them",
            license="WordNet-3.0",
            parts=(_deb("wordnet-base", {r"usr/share/wordnet/(data\.(?:noun|verb|adj|adv))": r"\1"}),),
            count=counts.synsets,
            expected={"synsets": 117_659, "pointers": 377_592},
        ),
        FetchedSet(
            name="instruments",
            summary="1,418 samples of instruments with their names, in one sound font",
            license="MIT",
            parts=(_deb("fluid-soundfont-gm", {r"usr/share/sounds/sf2/(FluidR3_GM\.sf2)": r"\1"}),),
            count=counts.font_samples,
            expected={"samples": 1_418},
        ),
        FetchedSet(
            name="icons",
            summary="Lucide and Font Awesome Free: line and solid icons with search terms",
            license="ISC AND MIT AND CC-BY-4.0",
            parts=(
                Part(
                    "npm",
                    "lucide-static",
                    {
                        r"package/(LICENSE)": r"lucide/\1",
                        r"package/(tags\.json)": r"lucide/\1",
                        r"package/icons/([\w-]+\.svg)": r"lucide/\1",
                    },
                    version="1.62.0",
                ),
                Part(
                    "npm",
                    "@fortawesome/fontawesome-free",
                    {
                        r"package/(LICENSE\.txt)": r"fontawesome/\1",
                        r"package/metadata/(icon-families\.json)": r"fontawesome/\1",
                        # The drawings in svgs/ and in the metadata run over their frame, these have a margin.
                        r"package/svgs-full/(\w+)/([\w-]+\.svg)": r"fontawesome/\1/\2",
                    },
                    version="7.3.1",
                ),
            ),
            count=counts.tagged,
            expected={"lucide": 1_908, "fontawesome": 1_935},
        ),
    )
}
