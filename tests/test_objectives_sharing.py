"""One batch shared by several processes: the parts that they return add up to the loss, and so do their gradients."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding, load
from coembed.builtin import coembed_objectives
from coembed.objectives import (
    Distill,
    InfoNCE,
    Matryoshka,
    MultiPositive,
    Objective,
    PairObjective,
    Progressive,
    SigLIP,
    Triplet,
    pairs,
    precision,
)
from coembed.sharing import Share, shared
from coembed.spec import resolve

OBJECTIVES = {
    "infonce": lambda: InfoNCE(0.1),
    "infonce-forth": lambda: InfoNCE(0.1, directions="a->b"),
    "infonce-back": lambda: InfoNCE(0.1, directions="b->a"),
    "infonce-steep": lambda: InfoNCE(0.01, max_scale=200),
    "multi-positive": lambda: MultiPositive(0.1),
    "siglip": SigLIP,
    "triplet-random": lambda: Triplet(0.7, mining="random").eval(),
    "triplet-semi-hard": lambda: Triplet(0.7),
    "triplet-hardest": lambda: Triplet(0.7, mining="hardest"),
    "distill": Distill,
    "progressive": lambda: Progressive(InfoNCE(0.1), alpha=1.5, guard=0.2),
    "matryoshka": lambda: Matryoshka(InfoNCE(0.1), dims=(6, 3), weights=(1.0, 0.5)),
}
SIZE, EXTRA, DIM = 23, 5, 6


class Reducer:
    """What an all-reduce does, between threads: everyone brings a tensor, all get the reduced one, in place."""

    def __init__(self, world: int) -> None:
        self.barrier, self.brought = threading.Barrier(world, timeout=20), [torch.empty(0)] * world

    def over(self, rank, how):
        def reduce(tensor):
            self.brought[rank] = tensor.clone()
            self.barrier.wait()
            reduced = how(torch.stack(self.brought))
            self.barrier.wait()
            return tensor.copy_(reduced)

        return reduce

    def share(self, rank: int) -> Share:
        total, most = (self.over(rank, how) for how in (lambda x: x.sum(0), lambda x: x.amax(0)))
        return Share(rank, len(self.brought), total, most)


def batch(tokens: int, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def rows(count):
        return F.normalize(torch.randn(count, tokens, DIM, generator=generator, dtype=dtype), dim=-1)

    a, extra = rows(SIZE), rows(EXTRA)
    return a, F.normalize(a + 0.5 * rows(SIZE), dim=-1), extra


def loss_and_gradients(objective: Objective, tensors, given):
    leaves = [x.clone().requires_grad_() for x in tensors]
    rows = [Embedding(leaf, torch.ones(leaf.shape[:2], dtype=torch.bool)) for leaf in leaves]
    loss = objective(*rows[:2], negatives=rows[2], **given)
    wanted = [*leaves, *objective.parameters()]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [loss.detach(), *(torch.zeros_like(x) if g is None else g for x, g in zip(wanted, grads, strict=True))]


def parts(objective: Objective, world: int, tensors, given):
    """What every process returns, each with its own copy of the objective."""
    reducer = Reducer(world)

    def one(rank):
        try:
            with shared(reducer.share(rank)):
                return loss_and_gradients(copy.deepcopy(objective), tensors, given)
        except BaseException:
            reducer.barrier.abort()
            raise

    with ThreadPoolExecutor(world) as pool:
        return [future.result() for future in [pool.submit(one, rank) for rank in range(world)]]


GIVEN = {
    "plain": {},
    "everything": {
        "weights": torch.linspace(0, 2, SIZE, dtype=torch.float64),
        "keys": torch.arange(SIZE) % 7,
        "mask": torch.rand(SIZE, SIZE + EXTRA, generator=torch.Generator().manual_seed(1)) < 0.3,
    },
}


@pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES.keys())
@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("large", [False, True], ids=["whole", "tiles"])
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN.keys())
def test_parts_add_up(make, world, large, tokens, given, monkeypatch):
    objective, tensors = make().double(), batch(tokens)
    assert objective.shares
    whole = loss_and_gradients(objective, tensors, given)
    monkeypatch.setattr(pairs, "LARGE", 0 if large else 1 << 40)
    monkeypatch.setattr(precision, "ROWS", 4)
    monkeypatch.setattr(precision, "COLUMNS", 7)
    found = parts(objective, world, tensors, given)
    assert len({part[0].item() for part in found}) > 1, "each process has a part of its own"
    for name, one, *others in zip("loss a b negatives scale bias".split(), whole, *found, strict=False):
        torch.testing.assert_close(sum(others), one, rtol=1e-9, atol=1e-12, msg=lambda text, at=name: f"{at}: {text}")


@pytest.mark.parametrize("kind", [InfoNCE, MultiPositive, SigLIP, Triplet, Distill])
@pytest.mark.parametrize("large", [False, True], ids=["whole", "tiles"])
def test_more_processes_than_pairs(kind, large, monkeypatch):
    monkeypatch.setattr(pairs, "LARGE", 0 if large else 1 << 40)
    objective, tensors = kind().double(), [x[:2] for x in batch(1)]
    whole = loss_and_gradients(objective, tensors, {})
    for one, *others in zip(whole, *parts(objective, 3, tensors, {}), strict=True):
        torch.testing.assert_close(sum(others), one, rtol=1e-9, atol=1e-12)


def test_a_loss_that_only_knows_all_rows_is_shared_by_default():
    class Gap(PairObjective):
        def rows(self, pairs):
            return (1 - pairs.scores().diagonal()).square()

    tensors = batch(1)
    given = {"weights": GIVEN["everything"]["weights"]}
    whole = loss_and_gradients(Gap(), tensors, given)
    for one, *others in zip(whole, *parts(Gap(), 3, tensors, given), strict=True):
        torch.testing.assert_close(sum(others), one, rtol=1e-9, atol=1e-12)


def test_wrappers_share_as_what_they_wrap_and_others_say_no():
    class Plain(Objective):
        def forward(self, a, b, **given):
            return (a.values - b.values).square().sum()

    assert not Plain().shares and not Matryoshka(Plain(), dims=(2,)).shares
    assert Matryoshka("infonce", dims=(2,)).shares


def test_every_registered_objective_of_the_core_is_in_the_table():
    # Those over layers, whose vectors stand side by side along T, are in tests/test_layers.py and the gradient table.
    names = {s.name for s in coembed_objectives() if not resolve(s.target).tiny(Path()).layered}
    assert names == {name.split("-")[0] if "multi" not in name else name for name in OBJECTIVES}
    assert all(load(name).shares for name in names - {"matryoshka"})
