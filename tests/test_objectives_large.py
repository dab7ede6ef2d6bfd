"""Losses tile by tile: the same values and gradients as the whole matrix, in memory that grows with B alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from coembed import Embedding
from coembed.objectives import InfoNCE, MultiPositive, SigLIP, pairs, precision, tiled


def data(size=70, extra=0, dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def vectors(count):
        x = torch.randn(count, dim, generator=generator, dtype=torch.float64)
        return torch.nn.functional.normalize(x, dim=1)

    a = vectors(size)
    b = torch.nn.functional.normalize(a + 0.5 * vectors(size), dim=1)
    return a, b, vectors(extra) if extra else None


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles that do not divide the sizes, so that every edge is met."""
    monkeypatch.setattr(precision, "ROWS", 16)
    monkeypatch.setattr(precision, "COLUMNS", 24)


def loss_and_gradients(objective, a, b, extra, large, monkeypatch, **options):
    monkeypatch.setattr(pairs, "LARGE", 0 if large else 1 << 40)
    leaves = [x.clone().requires_grad_() for x in (a, b, extra) if x is not None]
    objective.zero_grad()
    negatives = Embedding.from_vectors(leaves[2]) if extra is not None else None
    left, right = (Embedding.from_vectors(leaf) for leaf in leaves[:2])
    loss = objective(left, right, negatives=negatives, **options)
    loss.backward()
    grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return [loss.detach(), *grads, *(p.grad.clone() for p in objective.parameters())]


OPTIONS = {
    "plain": {},
    "weights": {"weights": torch.linspace(0, 2, 70, dtype=torch.float64)},
    "keys": {"keys": torch.arange(70) % 9},
    "one key": {"keys": torch.zeros(70, dtype=torch.int64)},
}


@pytest.mark.parametrize("directions", ["both", "a->b", "b->a"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("extra", [0, 13])
@pytest.mark.parametrize("kind", [InfoNCE, MultiPositive])
def test_tiles_equal_the_whole(kind, extra, masked, options, directions, small_tiles, monkeypatch):
    a, b, more = data(extra=extra)
    given = dict(OPTIONS[options])
    if masked:
        given["mask"] = torch.rand(70, 70 + extra, generator=torch.Generator().manual_seed(1)) < 0.4
    objective = kind(temperature=0.05, directions=directions).double()
    whole = loss_and_gradients(objective, a, b, more, False, monkeypatch, **given)
    tiles = loss_and_gradients(objective, a, b, more, True, monkeypatch, **given)
    for one, other in zip(whole, tiles, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("extra", [0, 13])
def test_sigmoid_tiles_equal_the_whole(extra, masked, options, small_tiles, monkeypatch):
    a, b, more = data(extra=extra)
    given = dict(OPTIONS[options])
    if masked:
        given["mask"] = torch.rand(70, 70 + extra, generator=torch.Generator().manual_seed(1)) < 0.4
    whole = loss_and_gradients(SigLIP().double(), a, b, more, False, monkeypatch, **given)
    tiles = loss_and_gradients(SigLIP().double(), a, b, more, True, monkeypatch, **given)
    for one, other in zip(whole, tiles, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_gradients_are_those_of_finite_differences(small_tiles):
    a, b, _ = data(size=20, dim=3)
    leaves = tuple(x.requires_grad_() for x in (a, b, torch.tensor(3.0, dtype=torch.float64)))
    assert torch.autograd.gradcheck(lambda a, b, s: tiled.log_sum_exp(a, b, s, torch.arange(20) % 6), leaves)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_no_scale_overflows(scale, small_tiles):
    a, b, _ = data()
    rows, columns, _own = tiled.log_sum_exp(a.float(), b.float(), torch.tensor(scale))
    scores = scale * a @ b.T
    torch.testing.assert_close(rows.double(), scores.logsumexp(1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(columns.double(), scores.logsumexp(0), rtol=1e-5, atol=1e-4)


def test_large_batches_take_the_tiles_by_themselves(monkeypatch):
    seen = []
    real = tiled.log_sum_exp
    monkeypatch.setattr(
        "coembed.objectives.infonce.log_sum_exp", lambda *args, **more: seen.append(1) or real(*args, **more)
    )
    for size, wanted in ((500, 0), (600, 1)):
        seen.clear()
        x = Embedding.from_vectors(torch.nn.functional.normalize(torch.randn(size, 4), dim=1))
        InfoNCE()(x, x)
        assert len(seen) == wanted


# ru_maxrss would begin with what the parent held.
MEMORY = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])
from coembed import Embedding
from coembed.objectives import InfoNCE
size = int(sys.argv[1])
a, b = (torch.nn.functional.normalize(torch.randn(size, 16), dim=1).requires_grad_() for _ in range(2))
loss = InfoNCE()
before = peak()
loss(Embedding.from_vectors(a), Embedding.from_vectors(b)).backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_grows_with_the_batch_not_its_square():
    """At 8,192 the whole matrix is 256 MB, and the naive form holds several."""
    grown = [int(subprocess.check_output([sys.executable, "-c", MEMORY, str(n)], text=True)) for n in (2048, 8192)]
    assert max(grown) < 100 * 1024, grown
