"""What the processes of `processes.py` run; each function gets plain arguments and leaves files."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file

import coembed
from coembed import Contrast, Memory, Mined, Miner, Objective, Pretext, Records, Space, Stage
from coembed.aligner import Linear
from coembed.builtin import coembed_objectives
from coembed.cli import main
from coembed.depths import Exits
from coembed.features import FeatureStore
from coembed.objectives import (
    AdaptiveLayers,
    InfoNCE,
    Matryoshka,
    Matryoshka2D,
    MultiPositive,
    Progressive,
    SigLIP,
    Starbucks,
    Triplet,
    pairs,
)
from coembed.plugins import build, plugins
from coembed.sharing import Share
from coembed.spec import resolve
from coembed.tasks import Task
from coembed.testing import toy_encoder
from coembed.training.columns import Batch, read_columns
from coembed.training.distributed import ONE, Ranks, join, leave
from coembed.training.embedder import Embedder
from coembed.training.step import Step, add_gradients, part_of_loss

WORDS = [f"{a} {b}" for a in ("red", "green", "blue", "small", "big") for b in ("cat", "dog", "fish", "sun", "tree")]


# Rows of the gradient table beside the registered objectives as their `tiny` makes them.
VARIANTS: dict[str, Callable[[], Objective]] = {
    "infonce a->b": lambda: InfoNCE(0.5, directions="a->b"),
    "infonce b->a": lambda: InfoNCE(0.5, directions="b->a"),
    "infonce above its ceiling": lambda: _raised(InfoNCE(1.0, max_scale=1.0)),
    "infonce fixed": lambda: InfoNCE(0.5, learnable=False),
    "triplet random": lambda: Triplet(0.7, mining="random"),
    "triplet hardest": lambda: Triplet(0.7, mining="hardest"),
    "distill mse": lambda: build("objective", "distill", kind="mse"),
    "matryoshka of siglip": lambda: Matryoshka("siglip", dims=(8, 3), weights=(1.0, 0.5)),
    "matryoshka of triplet": lambda: Matryoshka(Triplet(0.7), dims=(8, 3)),
    "matryoshka2d v2": lambda: Matryoshka2D("infonce", dims=(3, 5), variant="v2", form="scores"),
    "matryoshka2d ese": lambda: Matryoshka2D("infonce", dims=(3,), variant="ese"),
    "starbucks of siglip, by features": lambda: Starbucks("siglip", sizes=((1, 3), (2, 5)), form="features"),
    "starbucks that cannot share": lambda: Starbucks(Covariance(), sizes=((1, 8),)),
    "matryoshka of layers": lambda: Matryoshka(AdaptiveLayers("infonce", kl=0.5), dims=(8, 3)),
    "progressive half way": lambda: Progressive(InfoNCE(0.5), alpha=1.5),
    "progressive with a guard": lambda: Progressive("siglip", alpha=1.5, guard=0.2),
    "that cannot share": lambda: Covariance(),
}
# Rows that are contrasts with more than a batch's own negatives: the objective and what the contrast is given.
HARD = Mined("a", "b", {str(i): (str((i + 2) % 13), f"spare {i % 4}", str((i + 5) % 13)) for i in range(13)})
CONTRASTS: dict[str, tuple[Callable[[], Objective], dict[str, Any]]] = {
    "mined": (InfoNCE, {"negatives": HARD}),
    "mined, two drawn": (lambda: SigLIP(), {"negatives": replace(HARD, draw=2)}),
    "mined alone": (InfoNCE, {"negatives": HARD, "in_batch": False}),
    "mined alone a->b": (lambda: InfoNCE(0.5, directions="a->b"), {"negatives": HARD, "in_batch": False}),
    "mined, of several layers": (lambda: Starbucks("infonce", sizes=((1, 3), (2, 5))), {"negatives": HARD}),
    "memory": (InfoNCE, {"memory": 7}),
    "memory and mined": (lambda: Progressive(MultiPositive(), alpha=1.0), {"memory": 7, "negatives": HARD}),
}
LAYOUTS = ("rows", "tokens", "two rows")  # single vectors, multi-vectors, fewer rows than three processes


def _raised(objective: InfoNCE) -> InfoNCE:
    with torch.no_grad():
        objective.scale.log_scale.add_(0.5)
    return objective


class Covariance(Objective):
    """A loss of the batch as a whole, with a learned factor: it knows nothing of sharing."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, a, b, *, weights=None, keys=None, mask=None, negatives=None):
        x, y = a.pool().vectors, b.pool().vectors
        return (self.factor * (x - x.mean(0)).T @ (y - y.mean(0)) - torch.eye(x.shape[1])).square().sum()


def objectives() -> dict[str, Callable[[], Objective]]:
    """Every row of the gradient table."""
    names = [spec.name for spec in coembed_objectives()]
    built = {
        name: (lambda name=name: resolve(plugins().find(name, "objective")[2].target).tiny(Path())) for name in names
    }
    return {**built, **VARIANTS}


def combinations() -> list[tuple[str, str]]:
    """Every row of the gradient table in every layout that it has."""
    rows = [*objectives(), *CONTRASTS]
    return [(row, layout) for row, layout in product(rows, LAYOUTS) if layout != "tokens" or "memory" not in row]


def gradients(
    row: str,
    layout: str,
    *,
    micro_batch: int | None = None,
    ranks: Ranks = ONE,
    hold: tuple[int, int | None] | None = None,
) -> dict[str, torch.Tensor]:
    """Loss and gradients of one batch with dropout on; `hold`: whole graphs, in the chunks of (world, micro-batch)."""
    torch.manual_seed(0)
    pool = "none" if layout == "tokens" else "mean"
    towers = {
        name: coembed.Tower(toy_encoder(dim=12, seed=i, dropout=0.3), "linear", dim=8, pool=pool, train="all")
        for i, name in enumerate("ab")
    }
    model = Space(towers, dim=8).double()
    left = ["cat", "a dog", "cat", "fish", "sun and moon", "x", "tree", "rock", "sea", "star", "red", "green", "blue"]
    records = [
        coembed.Record({"a": w, "b": w[::-1] * 2 + str(i)}, id=str(i), weight=1 + i % 3) for i, w in enumerate(left)
    ]
    spare = [coembed.Record({"b": f"{w} alone"}, id=f"spare {i}") for i, w in enumerate(left[3:7])]
    make, given = CONTRASTS[row] if row in CONTRASTS else (objectives()[row], {})
    task = Contrast(Records([*records, *spare]), ("a", "b"), make(), **given)
    task.prepare(model)
    (columns,) = read_columns([task])
    task.attach(columns)
    for tower in task.banks.targets:  # some of the batch's own records among them
        vectors = torch.nn.functional.normalize(torch.randn(5, 8), dim=1)
        task.banks._bank(tower).push(vectors, torch.tensor([0, 3, 12, 5, 7]), 0)
    task.double()
    model.train()
    at = range(2 if layout == "two rows" else 13)
    batch = Batch(columns, at, task.hard(columns, at, seed=7))
    embed = Embedder(model, batch, batch.at.tolist(), {}, micro_batch=micro_batch, seed=7, ranks=ranks)

    def held(name: str, rows: Sequence[int], role: str | None, exits: Exits | None = None) -> coembed.Embedding:
        ends = list(accumulate(lengths(len(rows), *hold) if hold is not None else [len(rows)]))
        chunks = [rows[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return coembed.Embedding.cat(
            [embed._encode(model[name], name, chunk, role, exits) for chunk in chunks if chunk]
        )

    loss = part_of_loss(task, batch, embed if hold is None else held, model, ranks, seed=7)
    if loss.requires_grad:
        loss.backward()
    embed.backward()
    named = {**dict(model.named_parameters()), **dict(task.named_parameters())}
    add_gradients(ranks, named.values(), task)
    found = {name: p.grad for name, p in named.items() if p.grad is not None}
    return {"loss": ranks.add(loss.detach().clone()), **found}


def lengths(size: int, world: int, micro: int | None) -> list[int]:
    """Of the chunks in which `world` processes embed `size` rows."""
    parts = [Share(rank, world).part(size) for rank in range(world)]
    return [min(micro or size, part.stop - i) for part in parts for i in range(part.start, part.stop, micro or size)]


def table(folder: str, store: str) -> None:
    """The gradient table of this many processes: FOLDER/RANK.safetensors, keys ROW/LAYOUT/COLUMN/PARAMETER."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    ranks, found = join(), {}
    for row, layout in combinations():
        for column, large, micro in (("plain", 1 << 21, None), ("tiled", -1, None), ("cached", 1 << 21, 3)):
            pairs.LARGE = large
            got = gradients(row, layout, micro_batch=micro, ranks=ranks)
            found |= {f"{row}/{layout}/{column}/{name}": tensor.contiguous() for name, tensor in got.items()}
    save_file(found, str(Path(folder, f"{rank}.safetensors")))
    leave()


def space(dropout: float = 0.2) -> Space:
    """Tower a is frozen with a head that drops, b and c train, of which b drops."""
    torch.manual_seed(0)
    frozen = coembed.Tower(toy_encoder(dim=16), "mlp", dim=8, options={"dropout": dropout})
    b = coembed.Tower(toy_encoder(dim=16, seed=1, dropout=dropout), "linear", dim=8, train="all")
    c = coembed.Tower(toy_encoder(dim=8, seed=2), "identity", dim=8, train="last:1")
    return Space({"a": frozen, "b": b, "c": c}, dim=8)


class Length(Pretext):
    """Tell from an item's vector how long it is: a loss that is a mean over items."""

    @classmethod
    def tiny(cls, folder):
        return cls(Records.pairs(b=WORDS), "b")

    @classmethod
    def tiny_encoder(cls):
        return toy_encoder(dim=16)

    def build_head(self, encoder):
        torch.manual_seed(0)
        self.head = torch.nn.Linear(encoder.dim, 1)

    def collate_items(self, encoder, items):
        return encoder.collate(items)

    def item_loss(self, encoder, batch):
        wanted = batch["mask"].sum(1, keepdim=True) / 10
        return (self.head(encoder.pooled(encoder(batch)).vectors) - wanted).square().mean()


class Spread(Length):
    """A loss that compares the items of a batch with each other."""

    additive = False

    def item_loss(self, encoder, batch):
        told = self.head(encoder.pooled(encoder(batch)).vectors)
        return (told @ told.T).square().mean()


class Normed(Linear):
    """A head whose running statistics every process would count for itself."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim)
        self.norm = torch.nn.BatchNorm1d(in_dim)

    def project(self, x: coembed.Embedding) -> coembed.Embedding:
        return super().project(coembed.Embedding.from_vectors(self.norm(x.vectors)))


def tasks(variant: str) -> list[Task]:
    """Two tasks of which one learns its temperature and one counts its steps."""
    words = WORDS[:2] if variant == "few" else WORDS
    one = Records.pairs(a=words, b=[word.upper() for word in words])
    two = Records.pairs(b=words[:9], c=[word[::-1] for word in words[:9]])
    second = Contrast(two, ("b", "c"), Triplet(mining="random"), weight=2.0)
    pretexts = {"pretext": Length(one, "b"), "whole pretext": Spread(one, "b")}
    return [Contrast(one, ("a", "b"), "infonce"), pretexts.get(variant, second)]


def curriculum(steps: int) -> tuple[list[Task], list[Stage]]:
    """Three stages with miners, memories, walks and a loss that depends on how far a run is."""
    one = Records.pairs(a=WORDS, b=[word.upper() for word in WORDS], labels=[word.split()[1] for word in WORDS])
    miner = Miner(k=4, ratio=None, draw=2)
    mined = Contrast(one, ("a", "b"), Progressive("infonce", alpha=2.0), negatives=miner, memory=Memory(30, age=4))
    near = Contrast(one, ("a", "b"), batches={"locality": {"draw": [0, 4], "push": [2, 8]}})
    first, second = steps // 3, steps // 2
    ramp = InfoNCE({"start": 0.5, "end": 0.1}, directions="a->b")
    alone = Contrast(one, ("a", "b"), ramp, negatives=miner, in_batch=False)
    return [mined, near], [
        Stage(steps=first),
        Stage(steps=second - first, lr=3e-3, batch_size=5, tasks=[mined, alone]),
        Stage(steps=steps - second, batches={"homogeneous": "label"}),
    ]


def train(out: str, cache: str, steps: int, *, variant: str = "", fault: Any = None, **settings: Any) -> None:
    """A whole run through the public API; the last state goes to OUT/final-RANK.safetensors."""
    if variant == "own group":  # begun by the caller, without the names that launchers give
        rank, world = (int(os.environ.pop(name)) for name in ("RANK", "WORLD_SIZE"))
        dist.init_process_group("gloo", init_method=f"file://{cache}-{world}", rank=rank, world_size=world)
    trained = space(settings.pop("dropout", 0.2))
    if variant == "norm":
        trained.towers["c"] = coembed.Tower(trained["c"].encoder, Normed(8, 8), train="all")
    if variant == "own weights":  # those of rank 0 count
        with torch.no_grad():
            trained["b"].aligner.map.weight.mul_(1 + join().rank)
    if fault is not None:
        _inject(**fault)
    held = Records.pairs(a=WORDS[:5], b=[word.upper() for word in WORDS[:5]])
    fixed = {"batch_size": 8, "lr": 1e-2, "held_out": held, "cache": FeatureStore(Path(cache)), "resume": True}
    if variant == "differs":
        fixed["lr"] = 0.1 / (1 + join().rank)
    chosen = tasks(variant)
    if variant == "curriculum":
        chosen, fixed["stages"] = curriculum(steps)
    history = coembed.fit(trained, tasks=chosen, out=out, steps=steps, **{**fixed, **settings})
    assert [row["step"] for row in history.rows if "loss" in row] == list(range(1, steps + 1))
    assert history.figures["a->b"]["n"] == 5
    state = {
        **trained.state_dict(),
        **{f"task{i}.{k}": v for i, t in enumerate(chosen) for k, v in t.state_dict().items()},
    }
    plain = {name: tensor.clone() for name, tensor in state.items()}
    save_file({**plain, "losses": torch.tensor(history.losses)}, str(Path(out, f"final-{join().rank}.safetensors")))
    leave()


def _inject(rank: int, step: int, how: str) -> None:
    """At a step of one process: raise, get a signal by name, or wait so long that others must notice."""
    real = Step.__call__

    def call(self: Step, number: int) -> Any:
        if number == step and int(os.environ.get("RANK", "0")) == rank:
            if how == "raise":
                raise ValueError("a fault of one process")
            os.kill(os.getpid(), getattr(signal, how))
        return real(self, number)

    Step.__call__ = call  # type: ignore[method-assign]


def command(words: list[str], fault: Any = None) -> None:
    """The command line, as `python -m coembed` runs it."""
    sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
    if fault is not None:
        _inject(**fault)
    sys.exit(main(words))


if __name__ == "__job__":
    job: dict[str, Any] = globals()["job"]
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)
    os.environ.update(job["environment"])
    torch.set_num_threads(1)
    globals()[job["function"]](**job["arguments"])
