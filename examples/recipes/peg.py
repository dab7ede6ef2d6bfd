"""PEG: many negatives, mined ones, and weights that move from easy to hard pairs.

Wu et al. 2023, Towards Robust Text Retrieval with Progressive Learning (arXiv 2311.11691): InfoNCE over up to 80,000
negatives and five mined hard ones a query, and a loss whose sample weights change as training goes on. The weights are
a RECONSTRUCTION: the formula is in no source that we know. Ours, in `coembed.objectives.Progressive`: pair i weighs
n w_i / sum(w) with w_i = (1 - p_i) ** alpha(t), alpha on a cosine from 0 to 1.5, and, as a guard, the hardest share of
each batch weighs nothing in the first third of the steps.

Here: docstrings to the functions of the standard library, names hidden, modules held out; linear heads over TF-IDF
vectors. Every arm takes equal steps on equal batches of 64 pairs. More negatives are a memory of the targets of earlier
batches, where PEG gathers them over GPUs; the largest one is cut by its age to what 100 steps bring, so it holds most
functions twice. `mined 5` begins half way, in a second stage, with what the space at that moment finds; its control,
`random 5`, takes five random ones from there on. What does not say otherwise has 512 negatives. In the noisy arms a
fifth of the training pairs have each other's functions; `guarded` drops as many of each batch.

    pip install coembed coembed-text coembed-samples coembed-bench
    python examples/recipes/peg.py [--quick] [--json]
"""

import random
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

import coembed
from coembed import Memory, Mined, Miner, Records, Space, Stage, Tower
from coembed.embedding import Embedding
from coembed.features import FeatureStore
from coembed.moment import Moment, at
from coembed.objectives import InfoNCE, Progressive
from coembed.ramp import Ramp
from coembed.tasks import Contrast
from coembed_bench.recipe import Claim, Recipe, main
from coembed_samples.stdlib import Stdlib

DIM, BATCH, STEPS, LR, NOISE = 128, 64, 200, 1e-3, 0.2
WEIGHTS = Ramp(0.0, 1.5)


@cache
def store() -> FeatureStore:
    """TF-IDF vectors, computed once for all arms."""
    return FeatureStore(Path(tempfile.mkdtemp()))


@cache
def functions(seed: int, quick: bool) -> tuple[Records, Records]:
    """Docstrings and functions, for training and held out by module."""
    rows = list(Stdlib(name="hidden"))
    return Records(rows[::8] if quick else rows).split(0.2, seed=seed)


def shuffled(records: Records, seed: int) -> Records:
    """A share NOISE of the records with each other's functions."""
    rows, draw = list(records), random.Random(seed)
    places = draw.sample(range(len(rows)), round(NOISE * len(rows)))
    for one, other in zip(places, places[1:] + places[:1], strict=True):
        rows[one] = replace(rows[one], items={"text": rows[one]["text"], "code": records[other]["code"]})
    return Records(rows)


def at_random(records: Records, seed: int, k: int = 5) -> Mined:
    """Any k others for every record."""
    names, draw = [record.id for record in records], random.Random(seed)
    return Mined("text", "code", {name: tuple(n for n in draw.sample(names, k + 1) if n != name)[:k] for name in names})


def figures(space: Space, held: Records) -> dict[str, float]:
    with space.cached(store()):
        found = coembed.evaluate(space, held)["text->code"]
    return {"R@1": found["R@1"], "MRR": found["MRR"]}


@cache
def words(seed: int, quick: bool) -> coembed.Encoder:
    """Counts of words, weighted by how rare they are in training."""
    texts = [text for record in functions(seed, quick)[0] for text in record.items.values()]
    encoder: coembed.Encoder = coembed.load("text/tfidf", dim=2048, chars=0).fit(texts)
    return encoder


def build(seed: int, quick: bool) -> Space:
    """Two heads that begin alike, over one encoder."""
    return Space({name: Tower(words(seed, quick), "linear", dim=DIM, seed=seed) for name in ("text", "code")})


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    steps = 10 if quick else STEPS
    train, held = functions(seed, quick)
    noisy = shuffled(train, seed)

    def trained(
        records: Records,
        memory: int | None = 512,
        later: Miner | Mined | None = None,
        alpha: float | Ramp = 0.0,
        guard: float = 0.0,
    ) -> dict[str, float]:
        """One arm with that many negatives; `later` are the hard ones of the second half."""
        space, loss = build(seed, quick), Progressive(InfoNCE(0.05), alpha=alpha, guard=guard)
        bank = None if memory is None else Memory(memory - BATCH, age=100)
        task = Contrast(records, ("text", "code"), loss, memory=bank)
        stages = [Stage(steps=steps)]
        if later is not None:
            stages = [Stage(steps=steps // 2), Stage(steps=steps - steps // 2, negatives=later)]
        coembed.fit(space, tasks=[task], stages=stages, batch_size=BATCH, lr=LR, seed=seed, cache=store())
        return figures(space, held)

    return {
        "untrained": figures(build(seed, quick), held),
        "64 negatives": trained(train, None),
        "512 negatives": trained(train),
        "4096 negatives": trained(train, 4096),
        "halves, random 5": trained(train, later=at_random(train, seed)),
        "halves, mined 5": trained(train, later=Miner(k=5, ratio=0.95)),
        "progressive": trained(train, alpha=WEIGHTS),
        "noisy": trained(noisy),
        "noisy, progressive": trained(noisy, alpha=WEIGHTS),
        "noisy, guarded": trained(noisy, alpha=WEIGHTS, guard=NOISE),
    }


def _batch() -> tuple[Embedding, Embedding]:
    torch.manual_seed(0)
    x = torch.nn.functional.normalize(torch.randn(2, 50, 16), dim=2)
    return Embedding.from_vectors(x[0]), Embedding.from_vectors((x[0] + x[1]) / 2).normalize()


def alpha_zero_is_infonce_to_the_bit() -> None:
    a, b = _batch()
    assert torch.equal(Progressive(InfoNCE(0.1), alpha=0.0)(a, b), InfoNCE(0.1)(a, b))
    assert torch.equal(Progressive(InfoNCE(0.1), alpha=WEIGHTS)(a, b), InfoNCE(0.1)(a, b)), "t = 0"


def weights_add_up_and_have_no_gradient() -> None:
    losses = torch.rand(50, requires_grad=True)
    beta = Progressive(alpha=1.5).betas(losses, torch.ones(50))
    assert abs(float(beta.sum()) - 50) < 1e-3 and not beta.requires_grad


def hard_pairs_gain_share_with_alpha() -> None:
    a, b = _batch()
    losses = torch.stack([InfoNCE(0.1)(a, b, weights=row) for row in torch.eye(50)]).detach()
    hard = losses >= losses.quantile(0.9)
    shares = [float((Progressive(alpha=k / 2).betas(losses, torch.ones(50)) * losses)[hard].sum()) for k in range(4)]
    assert shares == sorted(shares)


def the_guard_ends_after_a_third() -> None:
    loss, losses = Progressive(alpha=1.0, guard=0.2), torch.rand(50)
    for share, dropped in ((0.0, 10), (0.3, 10), (0.34, 0)):
        with at(Moment(share=share)):
            assert int((loss.betas(losses, torch.ones(50)) == 0).sum()) == dropped


recipe = Recipe(
    method="peg",
    title="PEG on docstrings and functions: negatives, mined negatives, progressive weights (a reconstruction)",
    run=run,
    invariants=[
        alpha_zero_is_infonce_to_the_bit,
        weights_add_up_and_have_no_gradient,
        hard_pairs_gain_share_with_alpha,
        the_guard_ends_after_a_third,
    ],
    claims=[
        Claim("more negatives help: 512 rather than 64", metric="R@1", better="512 negatives", than="64 negatives"),
        Claim("and 4096 rather than 512", metric="R@1", better="4096 negatives", than="512 negatives"),
        Claim("five mined negatives help", metric="R@1", better="halves, mined 5", than="512 negatives"),
        Claim("more than five random ones", metric="R@1", better="halves, mined 5", than="halves, random 5"),
        Claim("progressive weights help on clean pairs", metric="R@1", better="progressive", than="512 negatives"),
        Claim("noise makes them worse than equal ones", metric="R@1", better="noisy", than="noisy, progressive"),
        Claim("the guard makes up for it", metric="R@1", better="noisy, guarded", than="noisy, progressive"),
    ],
)

if __name__ == "__main__":
    main(recipe)
