"""`samples/chloroplast` and `samples/lambda`: two small genomes, one as its coding regions, one as windows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from coembed.sources import Record, Source

GenomeName = Literal["chloroplast", "lambda"]

_COMPLEMENT = str.maketrans("ACGT", "TGCA")


def genome(name: GenomeName) -> str:
    """The whole sequence of a carried genome in the letters ACGT, the strand that its public record shows.

    "chloroplast" is Arabidopsis thaliana's (NC_000932.1, 154,478 bp, circular), "lambda" the phage's (NC_001416.1,
    48,502 bp). Raises ValueError for another name.

    >>> len(genome("chloroplast")), genome("lambda")[:12]
    (154478, 'GGGCGGCGACCT')
    """
    if name not in get_args(GenomeName):
        raise ValueError(f"genome {name!r} is not carried; choose one of {', '.join(get_args(GenomeName))}")
    return str(_read(name)["sequence"])


def joined(sequence: str, exons: Sequence[Sequence[int]]) -> str:
    """The coding strand of a region: its exons `(start, end, strand)`, counted from 0, `end` excluded, in their order.

    Each exon has its own strand (1 or -1), since trans-splicing joins exons of both.

    >>> joined("AACCGT", [(0, 3, 1), (3, 6, -1)])
    'AACACG'
    """
    pieces = ((sequence[start:end], strand) for start, end, strand in exons)
    return "".join(piece if strand > 0 else piece[::-1].translate(_COMPLEMENT) for piece, strand in pieces)


class Chloroplast(Source):
    """The 85 coding regions of Arabidopsis thaliana's chloroplast as DNA, protein and product name.

    `dna` is the coding strand from start to stop codon with introns taken out, `protein` the record's translation (NCBI
    table 11, no stop), `text` the product ("photosystem II protein D1"). Regions come in the order of NC_000932.1.
    `id` is the protein's accession; `group` and `label` are the gene, 78 of them: seven stand twice, in the two halves
    of the inverted repeat, six of these with equal letters (of ycf1 one half holds only the first fifth).

    `extra["locus"]` is the locus tag, `extra["exons"]` holds `(start, end, strand)` in `genome("chloroplast")`, and
    `extra["exception"]` says where DNA alone does not give the protein or the order ("RNA editing": ndhD, whose ACG
    becomes a start; "trans-splicing": rps12), else "". rps19 and ycf1 start with GTG, read as M.

    >>> source = Chloroplast()
    >>> len(source), source[1]["text"], source[1]["dna"][:9], source[1]["protein"][:3]
    (85, 'photosystem II protein D1', 'ATGACTGCA', 'MTA')
    """

    @property
    def towers(self) -> tuple[str, ...]:
        """The three towers of every record.

        >>> Chloroplast().towers
        ('dna', 'protein', 'text')
        """
        return ("dna", "protein", "text")

    def __len__(self) -> int:
        return len(_read("chloroplast")["regions"])

    def __iter__(self) -> Iterator[Record]:
        sequence = genome("chloroplast")
        for region in _read("chloroplast")["regions"]:
            yield Record(
                {"dna": joined(sequence, region["exons"]), "protein": region["protein"], "text": region["product"]},
                id=region["id"],
                group=region["gene"],
                label=region["gene"],
                extra={
                    "locus": region["locus"],
                    "exons": tuple(map(tuple, region["exons"])),
                    "exception": region["exception"],
                },
            )


class Lambda(Source):
    """The genome of phage lambda (NC_001416.1, 48,502 bp) cut into windows of DNA that do not overlap.

    Joined in order, the windows are `genome("lambda")`; the last may be shorter. What is carried is the sequence
    alone, without genes. `id` is `lambda:start-end`, counted from 0 with `end` excluded, and so are `extra["start"]`
    and `extra["end"]`. Raises ValueError for a `size` that is not 1 or more.

    >>> source = Lambda(size=1000)
    >>> len(source), source[0].id, source[0]["dna"][:12], len(source[48]["dna"])
    (49, 'lambda:0-1000', 'GGGCGGCGACCT', 502)
    """

    def __init__(self, size: int = 512) -> None:
        if size < 1:
            raise ValueError(f"size {size} of a window must be 1 or more letters")
        self.size = size

    @property
    def towers(self) -> tuple[str, ...]:
        """The one tower of every record.

        >>> Lambda().towers
        ('dna',)
        """
        return ("dna",)

    def __len__(self) -> int:
        return -(-len(genome("lambda")) // self.size)

    def __iter__(self) -> Iterator[Record]:
        sequence = genome("lambda")
        for start in range(0, len(sequence), self.size):
            end = min(start + self.size, len(sequence))
            yield Record({"dna": sequence[start:end]}, id=f"lambda:{start}-{end}", extra={"start": start, "end": end})


@cache
def _read(name: str) -> Any:
    data = files("coembed_samples") / "data" / "genomes" / f"{name}.json.gz"
    return json.loads(gzip.decompress(data.read_bytes()))
