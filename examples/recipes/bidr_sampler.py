"""BiDR's locality batches: neighbours of a first-stage model share a batch, so that in-batch negatives are hard.

Xiao et al., Progressively Optimized Bi-Granular Document Representation (arXiv 2201.05409, WWW 2022), section 3.3 and
its code. From a random query on, a batch takes in one hard negative of each query and then the queries that have this
negative among theirs ("snow": the oldest of those that wait goes first, "walk": the newest), so that a batch is a part
of the neighbourhood. Here: docstrings of the standard library ask for their functions' code, whole modules held out. A
first stage trains two small encoders on random batches; all arms go on from its weights and its neighbours, for equal
steps: random batches, random batches with a hard negative for each query, and both walks. The published pilot had a
frozen encoder under a linear head; these encoders train.

    pip install coembed coembed-text coembed-samples coembed-bench
    python examples/recipes/bidr_sampler.py [--quick] [--json]
"""

import copy
import dataclasses
import functools
import warnings

import numpy as np
import torch

import coembed
from coembed import Records, Space, Tower
from coembed.tasks import Contrast
from coembed.training.locality import Locality, walk
from coembed.training.mining import Mined, Miner, mine
from coembed_bench.recipe import Claim, Recipe, main

warnings.filterwarnings("ignore", message=".* items in this batch are longer")  # the code's beginning is enough here
DRAW, PUSH, BATCH = (0, 20), (20, 60), 64


@functools.cache
def data(quick: bool) -> tuple[Records, Records]:
    train, held = coembed.load("samples/stdlib", name="hidden").split(0.2)
    return (Records(list(train)[:300]), Records(list(held)[:100])) if quick else (train, held)


def first_stage(seed: int, quick: bool) -> Space:
    """Two small encoders, trained on random batches: where every arm begins, and who says who is near."""
    towers, shape = {}, {"tokenizer": "bpe:2048", "dim": 64, "layers": 1, "heads": 4, "ff": 128, "dropout": 0.0}
    for tower, length in (("text", 32), ("code", 96)):
        encoder = coembed.load("text/transformer", **shape, max_length=length, seed=seed)
        encoder.fit_tokenizer([record[tower] for record in data(quick)[0]])
        towers[tower] = Tower(encoder, "identity", train="all")
    space = Space(towers)
    coembed.fit(space, data(quick)[0], steps=3 if quick else 200, batch_size=BATCH, lr=2e-3, seed=seed)
    return space


def neighbours(space: Space, quick: bool) -> Mined:
    """The best codes by the first stage's scores for every docstring, its own and equal ones left out."""
    return mine(space, data(quick)[0], "text", "code", Miner(k=PUSH[1], ratio=None))


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """The first stage alone, and the same number of further steps on each kind of batch."""
    train, held = data(quick)
    first = first_stage(seed, quick)
    near = neighbours(first, quick)
    arms = {
        "first stage": None,
        "random": {},
        "random, a hard negative": {"negatives": dataclasses.replace(near, draw=1)},
        "snow": {"batches": Locality(near, draw=DRAW, push=PUSH, mode="snow")},
        "walk": {"batches": Locality(near, draw=DRAW, push=PUSH, mode="walk")},
    }
    found = {}
    for arm, options in arms.items():
        space = copy.deepcopy(first)
        if options is not None:
            task = Contrast(train, ("text", "code"), "infonce", **options)
            coembed.fit(space, tasks=[task], steps=3 if quick else 200, batch_size=BATCH, lr=1e-3, seed=seed)
        both = coembed.evaluate(space, held)["text->code"]
        found[arm] = {name: both[name] for name in ("R@1", "R@10", "MRR")}
    return found


@functools.cache
def table() -> tuple[np.ndarray, Space]:
    """Positions of each record's neighbours by an untrained space, nearest first."""
    train, _ = data(quick=True)
    space = Space(
        {name: Tower(coembed.load("text/transformer", dim=32, layers=1), "identity") for name in train.towers}
    )
    ids = neighbours(space, quick=True).ids
    place = {record.id: i for i, record in enumerate(train)}
    return np.array([[place[name] for name in ids[record.id]] for record in train]), space


def each_record_comes_once_an_epoch() -> None:
    for mode in ("snow", "walk"):
        order, _ = walk(table()[0], DRAW, PUSH, mode, np.random.default_rng(0))
        assert sorted(order.tolist()) == list(range(len(table()[0])))


def a_drawn_negative_is_among_its_record_s_first_ranks() -> None:
    _, drawn = walk(table()[0], DRAW, PUSH, "snow", np.random.default_rng(0))
    near = table()[0][:, DRAW[0] : DRAW[1]]
    assert all(negative in row for negative, row in zip(drawn, near, strict=True))


def no_record_is_its_own_negative() -> None:
    train, _ = data(quick=True)
    for position, row in enumerate(table()[0].tolist()):
        assert position not in row and all(train[other]["code"] != train[position]["code"] for other in row)


def neighbours_share_batches() -> None:
    """Queries of one locality batch are nearer to each other than those of a random one."""
    train, _ = data(quick=True)
    vectors = table()[1].encode("text", [record["text"] for record in train]).vectors
    orders = [walk(table()[0], DRAW, PUSH, mode, np.random.default_rng(0))[0] for mode in ("snow", "walk")]
    orders.append(np.random.default_rng(0).permutation(len(train)))

    def alike(order: np.ndarray) -> float:
        parts = [vectors[torch.from_numpy(order[i : i + 32])] for i in range(0, 256, 32)]
        return sum(float((x @ x.T).mean()) for x in parts)

    snow, walked, random = map(alike, orders)
    assert snow > random and walked > random, (snow, walked, random)


recipe = Recipe(
    method="bidr",
    title="BiDR's locality batches, docstrings to code",
    run=run,
    claims=[
        Claim("snow batches beat random ones", "MRR", better="snow", than="random"),
        Claim("walk batches beat random ones", "MRR", better="walk", than="random"),
        Claim("more than a hard negative in random batches does", "MRR", better="snow", than="random, a hard negative"),
        Claim("further steps on random batches help at all", "MRR", better="random", than="first stage"),
    ],
    invariants=[
        each_record_comes_once_an_epoch,
        a_drawn_negative_is_among_its_record_s_first_ranks,
        no_record_is_its_own_negative,
        neighbours_share_batches,
    ],
)

if __name__ == "__main__":
    main(recipe)
