"""One budget for many compressors: of vectors that are there, and of a table of vectors while it is trained.

Zhang et al., Experimental Analysis of Large-scale Learnable Vector Storage Compression (arXiv 2311.15578, VLDB 2024).
Budgets are shares of the float32 bytes and count everything kept: codebooks, factors, maps, indices.

Vectors that are there ("vectors: ..."): 20,000 lines of Python of the installed packages, by static word vectors
(wordllama, 256 wide) at unit length, and stretched to lengths that differ for the magnitude variants; overlap@10 is how
much of the exact ten nearest of 300 other lines is found. MagPQ and MagSVD must equal the plain ones at unit length.

A table while it is trained ("table: ..."): a text encoder that is nothing but the mean of a 200,000-row table of hashed
character trigrams to pentagrams, 32 wide, trained on docstrings and code of the standard library; MRR on held-out
modules, of the full table and of four at 5 % of its bytes, equal steps each.

Where ours differs from the study: its tables were of recommenders; ours start alike (deviation 0.1) but for the tensor
train; Dedup's blocks are of one row. Left out are ALPT,
AutoDim, OptEmbed and AutoSrh, which search or learn in several stages, and DHE, MDE, MGQE, AdaptEmb and DeepLight are
there (`coembed_index.tables`) but not in this table: they need frequencies, more steps or more time than it has.

    pip install coembed coembed-text coembed-samples coembed-index 'coembed-bench[peers]' wordllama
    python examples/recipes/compression_study.py [--quick] [--json]
"""

import functools
import math
import tempfile
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import coembed
from coembed import Embedding
from coembed.objectives.infonce import InfoNCE
from coembed.ranking import rank_scores
from coembed_bench.recipe import Claim, Recipe, main
from coembed_bench.search_data import vectors
from coembed_index.codecs import compress
from coembed_index.tables import CompressedEmbedding
from coembed_index.tables.reduced import stochastic_round

LINES, ASKED, WIDTH = 20_000, 300, 256
CODECS = [
    ("int8", 0.26),
    ("int16", 0.51),
    ("dedup", 0.51),
    *((m, 0.1) for m in ("pq", "svd", "tt-svd", "prune", "hash")),
]
BUDGETS = (0.03, 0.1, 0.3)
ROWS, DIM, BUDGET, TABLES = 200_000, 32, 0.05, ("hash", "compositional", "tt", "robe")
Figures = dict[str, float]


@functools.cache
def lines(quick: bool) -> tuple[Tensor, Tensor]:
    """Static vectors of lines of code, without the context that `search_data` puts beside them."""
    rows, queries = vectors(2000 if quick else LINES, 50 if quick else ASKED)
    return F.normalize(rows[:, :WIDTH], dim=1), F.normalize(queries[:, :WIDTH], dim=1)


def overlap(queries: Tensor, exact: Tensor, rough: Tensor) -> float:
    best, found = ((queries @ rows.T).topk(10, dim=1).indices for rows in (exact, rough))
    return (best[:, :, None] == found[:, None]).any(2).double().mean().item()


def kept(rows: Tensor, queries: Tensor, method: str, budget: float, seed: int) -> Figures:
    codec = compress(rows, method, budget=budget, seed=seed)
    found = codec.all()
    apart = ((found - rows).square().sum() / rows.square().sum()).item()
    return {"overlap@10": overlap(queries, rows, found), "bytes": codec.ratio, "error": apart}


def of_vectors(seed: int, quick: bool) -> dict[str, Figures]:
    rows, queries = lines(quick)
    draw = torch.Generator().manual_seed(seed)
    results = {f"{method} {budget:g}": kept(rows, queries, method, budget, seed) for method, budget in CODECS}
    for budget in BUDGETS:
        if f"pq {budget:g}" not in results:
            results[f"pq {budget:g}"] = kept(rows, queries, "pq", budget, seed)
    stretched = rows * torch.exp(0.7 * torch.randn(len(rows), 1, generator=draw))
    for method in ("pq", "magpq", "svd", "magsvd"):
        results[f"{method} 0.1, stretched"] = kept(stretched, queries, method, 0.1, seed)
    return results


@functools.cache
def grams(quick: bool) -> list[list[tuple[Tensor, Tensor]]]:
    """For the train and the held-out side: numbers of character n-grams of docstrings and of code, and their starts."""
    sides = []
    for records in coembed.load("samples/stdlib").split(0.25):
        some = list(records)[: 150 if quick else None]
        sides.append([_bag([record[tower] for record in some]) for tower in ("text", "code")])
    return sides


def _bag(texts: list[str]) -> tuple[Tensor, Tensor]:
    bags = []
    for text in texts:
        text = " ".join(text.lower().split())[:100]
        found = {text[i : i + n].encode() for n in (3, 4, 5) for i in range(len(text) - n + 1)}
        bags.append(sorted({zlib.crc32(gram) % ROWS for gram in found}))
    ends = torch.tensor([0, *map(len, bags)]).cumsum(0)
    return torch.tensor([number for bag in bags for number in bag]), ends


def encode(table: CompressedEmbedding, bag: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
    """Unit vectors of some texts: the means of their n-grams' rows."""
    numbers, ends = bag
    counts = (ends[1:] - ends[:-1])[rows]
    at = torch.arange(int(counts.sum())) + (ends[:-1][rows] - (counts.cumsum(0) - counts)).repeat_interleave(counts)
    sums = torch.zeros(len(rows), DIM).index_add(
        0, torch.arange(len(rows)).repeat_interleave(counts), table(numbers[at])
    )
    return F.normalize(sums, dim=1)


def of_table(method: str, budget: float, seed: int, quick: bool) -> Figures:
    (train, held), steps = grams(quick), 3 if quick else 100
    table = CompressedEmbedding(ROWS, DIM, method=method, budget=budget, seed=seed)
    loss, draw = InfoNCE(0.05, learnable=False), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adagrad(table.parameters(), lr=0.05)
    for _ in range(steps):
        rows = torch.randperm(len(train[0][1]) - 1, generator=draw)[:128]
        sides = [Embedding.from_vectors(encode(table, bag, rows)) for bag in train]
        optimiser.zero_grad()
        (loss(*sides) + table.penalty()).backward()
        optimiser.step()
        table.after_step()
    with torch.no_grad():
        every = torch.arange(len(held[0][1]) - 1)
        a, b = (encode(table.eval(), bag, every) for bag in held)
    found = rank_scores(a @ b.T, [[i] for i in range(len(a))]).figures()
    return {"MRR": found["MRR"], "R@10": found["R@10"], "bytes": table.ratio}


def run(seed: int, quick: bool) -> dict[str, Figures]:
    results = {f"vectors: {name}": row for name, row in of_vectors(seed, quick).items()}
    results |= {f"table: {method}": of_table(method, BUDGET, seed, quick) for method in TABLES}
    return results | {"table: full": of_table("full", 1.0, seed, quick)}


def small() -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return F.normalize(
        torch.randn(200, 10, 32, generator=draw).mean(1).repeat(10, 1) + 0.05 * torch.randn(2000, 32, generator=draw),
        dim=1,
    )


def the_bytes_told_are_the_files() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for method, budget in CODECS:
            codec = compress(small(), method, budget=max(budget, 0.3 if method in ("int8", "dedup") else budget) + 0.05)
            codec.save(Path(folder) / "codec")
            size = (Path(folder) / "codec").stat().st_size
            assert abs(size - codec.nbytes) <= 0.02 * codec.nbytes, f"{method}: {codec.nbytes} told, {size} written"


def rows_decode_alone_as_among_all() -> None:
    ids = torch.tensor([1999, 0, 3, 3])
    for method in ("int8", "pq", "magpq", "svd", "magsvd", "tt-svd", "prune", "dedup", "hash"):
        codec = compress(small(), method, budget=0.5)
        assert torch.equal(codec.decode(ids), codec.all()[ids]), method


def of_unit_vectors_magnitude_says_nothing() -> None:
    for plain, grouped in (("pq", "magpq"), ("svd", "magsvd")):
        assert torch.equal(compress(small(), plain, budget=0.2).all(), compress(small(), grouped, budget=0.2).all())


def stochastic_rounding_is_right_on_average() -> None:
    x, draw = torch.linspace(-2, 2, 41), torch.Generator().manual_seed(0)
    mean = torch.stack([stochastic_round(x, draw) for _ in range(1000)]).mean(0)
    assert (mean - x).abs().max() < 5 * 0.5 / math.sqrt(1000)


recipe = Recipe(
    method="vector-compression",
    title="Compression of vectors and of tables, at equal bytes",
    run=run,
    invariants=[
        the_bytes_told_are_the_files,
        rows_decode_alone_as_among_all,
        of_unit_vectors_magnitude_says_nothing,
        stochastic_rounding_is_right_on_average,
    ],
    claims=[
        Claim("at 10 % product codes beat factors", "overlap@10", better="vectors: pq 0.1", than="vectors: svd 0.1"),
        Claim("at 10 % factors beat pruning", "overlap@10", better="vectors: svd 0.1", than="vectors: prune 0.1"),
        Claim("more bytes find more", "overlap@10", better="vectors: pq 0.1", than="vectors: pq 0.03"),
        Claim("... and more still", "overlap@10", better="vectors: pq 0.3", than="vectors: pq 0.1"),
        Claim(
            "a quarter of the bytes by rounding beats a tenth by product codes",
            "overlap@10",
            better="vectors: int8 0.26",
            than="vectors: pq 0.1",
        ),
        Claim(
            "of stretched vectors MagPQ finds more than PQ",
            "overlap@10",
            better="vectors: magpq 0.1, stretched",
            than="vectors: pq 0.1, stretched",
        ),
        Claim(
            "... and MagSVD more than SVD",
            "overlap@10",
            better="vectors: magsvd 0.1, stretched",
            than="vectors: svd 0.1, stretched",
        ),
        *(
            Claim(f"at 5 % {name} beats the hash", "MRR", better=f"table: {method}", than="table: hash")
            for method, name in (("compositional", "composition"), ("tt", "the tensor train"), ("robe", "ROBE"))
        ),
    ],
)

if __name__ == "__main__":
    main(recipe)
