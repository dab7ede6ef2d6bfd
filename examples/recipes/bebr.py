"""BEBR: float vectors become a few stacked levels of signs, and a newer model's queries search the older one's codes.

Gan et al., Binary Embedding-based Retrieval at Tencent (arXiv 2302.08714, KDD 2023), sections 3.2 to 3.4. Queries are
the docstrings of the standard library, documents their functions' code (the first 200 characters), as vectors of a
frozen MiniLM; whole modules are held out, and the code of each must be found among all that are. "32 x 2" is a
binariser of 32 dimensions and two levels: 64 bits. The hash is the same network with one level, trained the same way.

Compatibility is tested on two old models: a binariser of the same encoder's vectors, trained on half of the pairs, and
one of another encoder altogether, static word vectors. The control is a new binariser, trained without the term that
makes it compatible.

Where ours differs: every row of a batch is a negative (five hardest, from a random start, collapse the codes, which
the column "distinct" would show); networks and batches are small; the layout of codes and their integer distance are
derived, the paper's own was not published; the compatible loss is written from its description, not from code.
A pilot showed no gain over the hash at equal bits. That claim is printed as it comes out.

    pip install coembed coembed-text coembed-samples coembed-index 'coembed-bench[peers]' wordllama
    python examples/recipes/bebr.py [--quick] [--json]
"""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import coembed
from coembed.ranking import rank_scores
from coembed_bench.align_data import CODE, vectors
from coembed_bench.recipe import Claim, Recipe, main
from coembed_index.bebr import Old, RecurrentBinary, distinct, fit_recurrent, popcount_form, sdc, squared_norms

SHAPES = {"32 x 1": (32, 1), "32 x 2": (32, 2), "32 x 4": (32, 4), "64 x 1": (64, 1), "128 x 1": (128, 1)}


@dataclass(frozen=True)
class Pairs:
    """Vectors of docstrings and code, row by row: of the new model (MiniLM) and of the old one (static words)."""

    new: tuple[Tensor, Tensor]
    old: tuple[Tensor, Tensor]


@functools.cache
def data(quick: bool) -> tuple[Pairs, Pairs]:
    """Pairs to train on and held-out ones."""
    sides = []
    static = coembed.load("text/static", model="package:wordllama")
    for records in coembed.load("samples/stdlib").split(0.25):
        pairs = [(r["text"], r["code"][:CODE]) for r in records][: 100 if quick else None]
        old = [F.normalize(static.encode(list(texts)).vectors, dim=1) for texts in zip(*pairs, strict=True)]
        sides.append(Pairs(vectors(pairs), (old[0], old[1])))
    return sides[0], sides[1]


def settings(seed: int, quick: bool) -> dict[str, int]:
    return {"hidden": 256, "steps": 10 if quick else 150, "batch_size": 128 if quick else 512, "seed": seed}


def figures(scores: Tensor) -> dict[str, float]:
    found = rank_scores(scores, [[i] for i in range(len(scores))]).figures()
    return {name: found[name] for name in ("R@1", "R@10")}


def by_codes(asks: RecurrentBinary, queries: Tensor, keeps: RecurrentBinary, documents: Tensor) -> dict[str, float]:
    """One binariser's queries on another's codes: cosines, by integers."""
    codes = keeps.encode(documents)
    scores = sdc(asks.encode(queries), codes, keeps.levels, asks.levels)
    found = figures(scores / squared_norms(codes, keeps.levels).sqrt().float())
    return {**found, "distinct": distinct(codes), "bits": keeps.code_bits}


def by_signs(queries: Tensor, documents: Tensor, bits: int, seed: int) -> dict[str, float]:
    """The untrained baseline: signs of random directions."""
    directions = torch.randn(queries.shape[1], bits, generator=torch.Generator().manual_seed(seed))
    a, b = (torch.where(x @ directions >= 0, 1.0, -1.0) for x in (queries, documents))
    return {**figures(a @ b.T), "distinct": distinct(b), "bits": bits}


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    train, held = data(quick)
    fit = functools.partial(fit_recurrent, **settings(seed, quick))
    results = {"float": {**figures(held.new[0] @ held.new[1].T), "bits": 32 * held.new[0].shape[1]}}
    results["random signs 128"] = by_signs(*held.new, 128, seed)
    made = {arm: fit(*train.new, bits=bits, levels=levels)[0] for arm, (bits, levels) in SHAPES.items()}
    results |= {arm: by_codes(model, held.new[0], model, held.new[1]) for arm, model in made.items()}
    half = [x[: len(x) // 2] for x in train.new]
    for case, pairs, documents, ours in (
        ("", half, train.new[1], held.new),
        ("static ", train.old, train.old[1], held.old),
    ):
        old, _ = fit(*pairs, bits=32, levels=2)
        compatible, _ = fit(*train.new, bits=32, levels=2, compatible_with=Old(old, documents))
        results[f"{case}old on old"] = by_codes(old, ours[0], old, ours[1])
        results[f"new on {case}old"] = by_codes(compatible, held.new[0], old, ours[1])
        results[f"control on {case}old"] = by_codes(made["32 x 2"], held.new[0], old, ours[1])
    return results


def integers_popcounts_and_floats_agree() -> None:
    for levels in (1, 2, 3, 4):
        model = RecurrentBinary(48, 40, levels).eval()
        x = torch.randn(30, 48, generator=torch.Generator().manual_seed(levels))
        codes, values = model.encode(x), model(x).double()
        floats = (values @ values.T).float()
        assert torch.equal(sdc(codes, codes, levels), floats)
        assert torch.equal(popcount_form(codes, codes, levels), floats)


def constant_codes_score_by_chance() -> None:
    assert figures(torch.ones(100, 100))["R@1"] <= 0.0101


recipe = Recipe(
    method="bebr",
    title="BEBR: recurrent binary codes of docstrings and code",
    run=run,
    invariants=[integers_popcounts_and_floats_agree, constant_codes_score_by_chance],
    claims=[
        Claim("a second level helps at equal dimensions", "R@10", better="32 x 2", than="32 x 1"),
        Claim("four levels help more", "R@10", better="32 x 4", than="32 x 2"),
        Claim("trained codes beat random signs at 128 bits", "R@1", better="128 x 1", than="random signs 128"),
        Claim("two levels beat the plain hash at 64 bits", "R@10", better="32 x 2", than="64 x 1"),
        Claim("four levels beat the plain hash at 128 bits", "R@10", better="32 x 4", than="128 x 1"),
        Claim("new queries on old codes beat old ones", "R@10", better="new on old", than="old on old"),
        Claim("... of another encoder too", "R@10", better="new on static old", than="static old on old"),
        Claim("it takes the compatible loss", "R@10", better="new on old", than="control on old"),
        Claim("... for another encoder too", "R@10", better="new on static old", than="control on static old"),
    ],
)

if __name__ == "__main__":
    main(recipe)
