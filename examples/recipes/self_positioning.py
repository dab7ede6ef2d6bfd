"""Self Positioning: experts of one start are merged where a small probe set says, against training on all at once.

Li et al., Self Positioning (arXiv 2410.15035, 2024): conflicting tasks and sets of unequal size are trained apart, and
the point to merge at is learned, as weights of an iterative spherical interpolation of task vectors and as a scale, by
SGD on the contrastive loss of a probe set that holds every task alike, plus mu times the scale. The formulas are taken
from a re-implementation's notes on the paper, its section numbers and code were not at hand.

Three tasks share one bag of words, in proportions 13 : 1.5 : 1: docstrings and functions of the standard library, names
and docstrings of others of its functions, labels and tags of emoji. All start from one base, trained to put the two
halves of a text together. An expert takes STEPS steps, training on all at once takes as many as all experts. The probe
is 200 records of each task's training half; figures are MRR on held-out modules and emoji. "chosen" is self-positioning
with the plain average as a candidate, by MRR on the probe; so is the best expert, never on what is held out.

    pip install coembed coembed-samples coembed-bench
    python examples/recipes/self_positioning.py [--quick] [--json]
"""

import copy
import re
import zlib
from functools import cache

import torch
from torch import nn

import coembed
from coembed import Contrast, Embedding, Encoder, EncoderSpec, Record, Records, Space, Tower
from coembed.evaluation import evaluate
from coembed.merging import (
    cosines,
    gradient_conflict,
    merge,
    retrieval,
    self_position,
    slerp,
    slerp_factors,
    task_vector,
)
from coembed_bench.recipe import Claim, Recipe, main

SIZES, HELD, PROBE = {"code": 2600, "names": 300, "emoji": 200}, 400, 200
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
BUCKETS, DIM = 8192, 64


class Bag(Encoder):
    """The mean of the vectors of a text's words, identifiers taken apart, each hashed into a table."""

    def __init__(self, spec: EncoderSpec, seed: int = 0) -> None:
        super().__init__(spec)
        self.table = nn.Embedding(BUCKETS, DIM)
        nn.init.normal_(self.table.weight, std=DIM**-0.5, generator=torch.Generator().manual_seed(seed))

    def collate(self, items, prompt=""):
        rows = [words(item)[:100] or [0] for item in items]
        ids = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        return {"ids": ids, "mask": torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in rows])}

    def forward(self, batch, layer=None):
        return Embedding(self.table(batch["ids"]), batch["mask"])

    @classmethod
    def samples(cls):
        return ["readLine", "a line of a file"]


def words(text: str) -> list[int]:
    """The buckets of a text's words."""
    return [zlib.crc32(word.lower().encode()) % BUCKETS for word in WORD.findall(text)]


def space_of(seed: int) -> Space:
    """One bag for both sides, nothing else."""
    bag = Bag(EncoderSpec(name="recipe/bag", modality="text", dim=DIM, target="recipe:Bag"), seed)
    return Space({name: Tower(bag, "identity", train="all") for name in ("query", "document")})


@cache
def data() -> dict[str, tuple[Records, Records]]:
    """Each task's training and held-out records; whole modules, and emoji of one base, are on one side."""
    train, held = coembed.load("samples/stdlib", name="kept").split(held_out=0.25, seed=0)
    found = {"code": ([pair(r, r["text"], r["code"]) for r in side] for side in (train, held))}
    found["names"] = (
        [pair(r, r.id.rpartition(":")[2].rpartition(".")[2], r["text"]) for r in list(side)[::-1]]
        for side in (train, held)
    )
    sides = coembed.load("samples/emoji").split(held_out=0.5, seed=0)
    found["emoji"] = ([pair(r, *r["text"].split(": ", 1)) for r in side if ": " in r["text"]] for side in sides)
    return {name: (Records(a[: SIZES[name]]), Records(b[:HELD])) for name, (a, b) in found.items()}


def pair(record: Record, query: str, document: str) -> Record:
    return Record({"query": query, "document": document}, id=record.id, group=record.group)


def halves(records: Records) -> Records:
    """Every second word of a text against the others: what the base learns from, with no task in it."""
    texts = [(r.id, WORD.findall(text)) for r in records for text in r.items.values()]
    cut = [(id_, " ".join(some[::2]), " ".join(some[1::2])) for id_, some in texts if len(some) > 7]
    return Records(Record({"query": a, "document": b}, id=f"{id_}-{n}") for n, (id_, a, b) in enumerate(cut))


def trained(start: Space, tasks: list[Contrast], steps: int, seed: int, mixing: float = 1.0) -> Space:
    space = copy.deepcopy(start)
    coembed.fit(space, tasks=tasks, steps=steps, batch_size=64, lr=5e-3, mixing=mixing, seed=seed, cache=False)
    return space


def contrasts(few: int | None = None) -> dict[str, Contrast]:
    some = {name: train if few is None else Records(list(train)[:few]) for name, (train, _) in data().items()}
    return {name: Contrast(records, ("query", "document")) for name, records in some.items()}


def figures(space: Space) -> dict[str, float]:
    """MRR of each task on what was held out, queries to documents, and their mean."""
    found = {
        name: float(evaluate(space, held, pairs=[("query", "document")])["query->document"]["MRR"])
        for name, (_, held) in data().items()
    }
    return {"mean": sum(found.values()) / len(found), **found}


def run(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Figures of the start, the experts, training on all at once, and the ways to merge the experts."""
    steps, search = (10, 10) if quick else (150, 200)
    everything = Records(r for train, _ in data().values() for r in halves(train))
    base = trained(space_of(seed), [Contrast(everything, ("query", "document"))], steps, seed)
    experts = {name: trained(base, [task], steps, seed) for name, task in contrasts().items()}
    probe = list(contrasts(PROBE).values())
    measure = retrieval(probe)
    position = self_position(base, list(experts.values()), probe, steps=search, seed=seed, metric=measure)
    alone = {name: figures(space) for name, space in experts.items()}
    best = max(experts, key=lambda name: measure(experts[name]))
    apart = list(experts.values())
    plain = merge(base, apart, how="slerp", weights=position.weights, scale=position.scale)
    everywhere = list(contrasts().values())
    spaces = {
        "base": base,
        "joint": trained(base, everywhere, 3 * steps, seed),
        "joint, balanced": trained(base, everywhere, 3 * steps, seed, mixing=1e6),
        "average": merge(base, apart),
        "sum": merge(base, apart, how="task-arithmetic"),
        "ties": merge(base, apart, how="ties"),
        "slerp, equal": merge(base, apart, how="slerp"),
        "self-positioning": plain,
        "chosen": position.space,
    }
    found = {name: figures(space) for name, space in spaces.items()}
    mean = {metric: sum(row[metric] for row in alone.values()) / len(alone) for metric in alone["code"]}
    found |= {"best expert": alone[best], "mean expert": mean}
    found["self-positioning"] |= {"scale": position.scale, "probe loss": position.after - position.before}
    found["self-positioning"] |= dict(zip((f"a {name}" for name in experts), position.weights, strict=True))
    start = {n: p.detach() for n, p in base.named_parameters()}
    vectors = [task_vector(start, {n: p.detach() for n, p in e.named_parameters()}) for e in apart]
    conflict = gradient_conflict(base, everywhere, batches=2 if quick else 8)
    for name, matrix in (("cosine of task vectors", cosines(vectors)), ("cosine of gradients", conflict.cosines)):
        found["base"][name] = float(matrix[0, 1] + matrix[0, 2] + matrix[1, 2]) / 3
    return found


def an_arc_ends_at_its_ends_and_keeps_the_length() -> None:
    one, two = ({"w": torch.randn(20, dtype=torch.float64), "v": torch.randn(5, dtype=torch.float64)} for _ in range(2))
    two = {name: tensor * (length(one) / length(two)) for name, tensor in two.items()}
    assert torch.allclose(slerp(one, two, 0.0)["w"], one["w"]) and torch.allclose(slerp(one, two, 1.0)["v"], two["v"])
    assert abs(length(slerp(one, two, 0.3)) - length(one)) < 1e-9


def length(vector: dict[str, torch.Tensor]) -> float:
    return float(sum(tensor.square().sum() for tensor in vector.values()) ** 0.5)


def the_order_of_experts_matters() -> None:
    factors = slerp_factors(torch.eye(3, dtype=torch.float64), torch.ones(3))
    assert factors[2] > 1.4 * factors[0]


def one_expert_comes_back_to_the_bit_and_nothing_else_moves() -> None:
    base, expert = space_of(0), space_of(1)
    before = copy.deepcopy(base.state_dict()), copy.deepcopy(expert.state_dict())
    merged = merge(base, [expert], how="slerp")
    assert all(torch.equal(t, merged.state_dict()[n]) for n, t in expert.state_dict().items())
    for space, kept in zip((base, expert), before, strict=True):
        assert all(torch.equal(t, space.state_dict()[n]) for n, t in kept.items())


recipe = Recipe(
    method="self-positioning",
    title="Self Positioning: three experts merged where a probe set says",
    run=run,
    invariants=[
        an_arc_ends_at_its_ends_and_keeps_the_length,
        the_order_of_experts_matters,
        one_expert_comes_back_to_the_bit_and_nothing_else_moves,
    ],
    claims=[
        Claim("learning where to merge beats equal weights", "mean", better="self-positioning", than="slerp, equal"),
        Claim("it beats the experts, on average", "mean", better="self-positioning", than="mean expert"),
        Claim("it beats the best expert", "mean", better="self-positioning", than="best expert"),
        Claim("it beats the plain average", "mean", better="self-positioning", than="average"),
        Claim("it beats the plain sum", "mean", better="self-positioning", than="sum"),
        Claim("it beats training on all at once", "mean", better="self-positioning", than="joint"),
        Claim("it beats training on all alike", "mean", better="self-positioning", than="joint, balanced"),
        Claim("with the average as a candidate it beats equal weights", "mean", better="chosen", than="slerp, equal"),
    ],
)

if __name__ == "__main__":
    main(recipe)
