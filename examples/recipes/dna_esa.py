"""DNA-ESA: reads are placed on a genome by embedding, searching and aligning, with training and without it.

Holur et al., Embed-Search-Align (arXiv 2309.11087; Bioinformatics 41(3) btaf041, 2025): reads and overlapping fragments
of a reference share one encoder's space, the nearest fragments are candidates, and alignment of those gives the place.
Here the encoder trains on one genome, a chloroplast's, and places reads of another, phage lambda's, both strands.

Where paper and code count a read as placed if any of up to 1,250 candidates aligns well, this counts the one place that
is reported. Vectors are normalised row by row (the code does so over the batch), training sees insertions and deletions
(there: substitutions alone), overlapping fragments are no negatives, and both directions are in the loss.

    pip install coembed 'coembed-dna[align]' coembed-samples
    pip install coembed-bench
    python examples/recipes/dna_esa.py [--quick] [--json]
"""

from functools import cache

import torch

import coembed
from coembed import Space, Tower
from coembed.tasks import Contrast
from coembed_bench.recipe import Claim, Recipe, main
from coembed_dna.esa import cigar
from coembed_dna.esa.mapper import Mapper
from coembed_dna.fragments import FragmentReads
from coembed_dna.sequence import reverse_complement
from coembed_samples.genomes import genome

DIM, TILES = 64, {"fragment": 400, "step": 200}
LEARNED, PLACED = {"chloroplast": genome("chloroplast")}, {"lambda": genome("lambda")}
CASES = {  # what the reads of a case suffer: substitutions, insertions and deletions a base
    "clean": (0.0, 0.0),
    "indels 2%": (0.0, 0.01),
    "5% + indels 4%": (0.05, 0.02),
}


def encoder(seed: int) -> coembed.Encoder:
    """One pre-norm layer over byte pairs of the genome that it learns from; the mean of its tokens is the vector."""
    made = coembed.load(
        "dna/transformer", tokenizer="bpe:1024", dim=DIM, ff=2 * DIM, layers=1, heads=2, dropout=0.0, seed=seed
    )
    made.fit_tokenizer(LEARNED.values())
    return made


def train(made: coembed.Encoder, steps: int, seed: int) -> None:
    """One encoder for fragments and reads: each picks its partner among the batch."""
    noise = {"noisy": 0.6, "substitutions": (0.0, 0.05), "insertions": (0.0, 0.02), "deletions": (0.0, 0.02)}
    sizes = {"fragment": (250, 450), "read": (80, 200)}
    source = FragmentReads(LEARNED, 64 * steps, **sizes, **noise, reverse=0.0, seed=seed)
    space = Space({name: Tower(made, "identity", train="all") for name in source.towers})
    task = Contrast(source, source.towers, same="group")
    coembed.fit(space, tasks=[task], steps=steps, batch_size=64, lr=1.5e-3, seed=seed)


def kmers() -> coembed.Encoder:
    """The control without a trained weight: 8-mers hashed into as many columns."""
    return coembed.load("dna/kmer", k=8, dim=DIM)


def reads(case: str, count: int) -> list[coembed.Record]:
    """Reads of lambda, 150 bases before their errors, from both strands; the same for every system."""
    substitutions, indels = CASES[case]
    rates = {"substitutions": (substitutions,) * 2, "insertions": (indels,) * 2, "deletions": (indels,) * 2}
    return list(FragmentReads(PLACED, count, fragment=(300, 300), read=(150, 150), noisy=1.0, **rates, seed=99))


def figures(mapper: Mapper, records: list[coembed.Record]) -> dict[str, float]:
    """Recall of candidates, and the share whose one reported place has the right strand and start within 10 bases."""
    texts, truth = [record["read"] for record in records], [record.extra for record in records]
    _, rows, _ = mapper.candidates.search(texts, 5)
    tiles = mapper.tiling.fragments
    whole = [
        [n >= 0 and tiles[n].start <= at["start"] and at["end"] <= tiles[n].end for n in row.tolist()]
        for row, at in zip(rows, truth, strict=True)
    ]
    hits = mapper.align(texts, k=5)
    right = [
        hit.contig is not None and hit.strand == at["strand"] and abs(hit.start - at["start"]) <= 10
        for hit, at in zip(hits, truth, strict=True)
    ]
    count = len(records)
    return {
        "R@1": sum(row[0] for row in whole) / count,
        "R@5": sum(map(any, whole)) / count,
        "strict": sum(right) / count,
    }


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """The same reads placed by an encoder before and after training, and by counted k-mers."""
    steps, count = (12, 60) if quick else (100, 300)
    made, rows = encoder(seed), {}
    for system in ("untrained", "trained", "k-mers"):
        if system == "trained":
            train(made, steps, seed)
        mapper = Mapper.build(PLACED, kmers() if system == "k-mers" else made, **TILES)
        found = {case: figures(mapper, reads(case, count)) for case in CASES}
        rows[system] = {f"{name} {case}": value for case, row in found.items() for name, value in row.items()}
    return rows


@cache
def untrained() -> Mapper:
    """What must hold whatever the encoder is is held against one that learnt nothing."""
    return Mapper.build(PLACED, encoder(0), **TILES)


def some_reads() -> list[str]:
    return [record["read"] for record in reads("clean", 40)]


def every_read_lies_whole_in_a_fragment() -> None:
    tiling = untrained().tiling
    for at in range(0, len(PLACED["lambda"]) - tiling.covers, 7):
        assert any(tile.start <= at and at + tiling.covers <= tile.end for tile in tiling.fragments)


def a_fragment_finds_itself() -> None:
    part = untrained().tiling.fragments[17]
    (score,), (row,), _ = untrained().candidates.search([PLACED["lambda"][part.start : part.end]], 1)
    assert row[0] == 17 and abs(score[0] - 1) < 1e-4


def vectors_do_not_depend_on_the_batch() -> None:
    space, tower = untrained().space, untrained().candidates.reads_by
    together = space.encode(tower, some_reads()).vectors
    alone = torch.cat([space.encode(tower, [read]).vectors for read in some_reads()])
    assert torch.allclose(together, alone, atol=1e-5)


def strands_scores_and_cigars_agree() -> None:
    text, sample = PLACED["lambda"], some_reads()
    turned = untrained().align(map(reverse_complement, sample))
    for hit, other in zip(untrained().align(sample), turned, strict=True):
        if hit.contig is None:
            continue
        read = hit.read.bases if hit.strand == "+" else reverse_complement(hit.read.bases)
        assert cigar.apply(list(hit.ops), read, text[hit.start : hit.end]) == read  # the CIGAR reproduces the read
        assert (hit.score == 2 * len(read)) == (text[hit.start : hit.end] == read) and hit.score <= 2 * len(read)
        if hit.quality >= 20 and other.quality >= 20:  # the other strand of a read has the same place
            assert abs(other.start - hit.start) <= 10 and {hit.strand, other.strand} == {"+", "-"}


CLEAN, ROUGH = "R@1 clean", "R@1 5% + indels 4%"
recipe = Recipe(
    method="dna-esa",
    title="DNA-ESA, reads of lambda by an encoder of a chloroplast",
    run=run,
    claims=[
        Claim("training carries over to a genome never seen", CLEAN, better="trained", than="untrained"),
        Claim("and to reads full of errors", ROUGH, better="trained", than="untrained"),
        Claim("it beats counted 8-mers of equal width", CLEAN, better="trained", than="k-mers"),
        Claim("it beats them on reads full of errors", ROUGH, better="trained", than="k-mers"),
    ],
    invariants=[
        every_read_lies_whole_in_a_fragment,
        a_fragment_finds_itself,
        vectors_do_not_depend_on_the_batch,
        strands_scores_and_cigars_agree,
    ],
)

if __name__ == "__main__":
    main(recipe)
