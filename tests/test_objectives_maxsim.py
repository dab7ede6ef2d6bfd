"""Large batches of multi-vectors: tiles of token scores give what the whole matrix gives, in bounded memory."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding
from coembed.objectives import InfoNCE, MultiPositive, SigLIP, pairs, precision

KINDS = {
    "both": lambda: InfoNCE(1.0),
    "forth": lambda: InfoNCE(1.0, directions="a->b"),
    "back": lambda: InfoNCE(1.0, directions="b->a"),
    "multi-positive": lambda: MultiPositive(1.0),
    "siglip": lambda: SigLIP(scale=2.0, bias=-3.0),
}
every = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
SIZE, EXTRA = 13, 4
GIVEN = {
    "plain": {},
    "keys": {"keys": torch.arange(SIZE) % 5},
    "mask": {"mask": torch.rand(SIZE, SIZE + EXTRA, generator=torch.Generator().manual_seed(1)) < 0.4},
    "everything": {
        "weights": torch.linspace(0, 2, SIZE, dtype=torch.float64),
        "keys": torch.arange(SIZE) % 5,
        "mask": torch.rand(SIZE, SIZE + EXTRA, generator=torch.Generator().manual_seed(2)) < 0.4,
    },
}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(precision, "ROWS", 9)
    monkeypatch.setattr(precision, "COLUMNS", 14)


def uneven(rows, tokens, seed):
    """Multi-vectors of uneven length; what the mask hides is NaN, which must never get out."""
    generator = torch.Generator().manual_seed(seed)
    values = F.normalize(torch.randn(rows, tokens, 6, generator=generator, dtype=torch.float64), dim=-1)
    mask = torch.arange(tokens) < 1 + (torch.arange(rows)[:, None] + seed) % tokens
    return values.masked_fill(~mask[..., None], math.nan), mask


def loss_and_gradients(objective, sides, large, monkeypatch, given):
    monkeypatch.setattr(pairs, "LARGE", 0 if large else 1 << 50)
    objective, leaves = objective.double(), [values.clone().requires_grad_() for values, _ in sides]
    a, b, extra = (Embedding(leaf, mask) for leaf, (_, mask) in zip(leaves, sides, strict=True))
    loss = objective(a, b, negatives=extra, **given)
    wanted = [*leaves, *objective.parameters()]
    return [loss.detach(), *torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)]


@every
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN.keys())
@pytest.mark.parametrize("lengths", [(3, 4, 2), (1, 3, 3), (3, 1, 1), (40, 1, 20)], ids=str)
def test_tiles_equal_the_whole(make, given, lengths, monkeypatch):
    sides = [uneven(n, t, seed) for seed, (n, t) in enumerate(zip((SIZE, SIZE, EXTRA), lengths, strict=True))]
    whole = loss_and_gradients(make(), sides, False, monkeypatch, given)
    tiles = loss_and_gradients(make(), sides, True, monkeypatch, given)
    for one, other in zip(whole, tiles, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@every
def test_ties_split_their_gradient_as_amax_does(make, monkeypatch):
    sides = [uneven(n, 3, seed) for seed, n in enumerate((SIZE, SIZE, EXTRA))]
    sides[1] = (sides[1][0].nan_to_num(1.0)[:, :1].expand(-1, 3, -1), torch.ones_like(sides[1][1]))
    whole = loss_and_gradients(make(), sides, False, monkeypatch, {})
    tiles = loss_and_gradients(make(), sides, True, monkeypatch, {})
    for one, other in zip(whole, tiles, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


# ru_maxrss would begin with what the parent held.
MEMORY = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])
from coembed import Embedding
from coembed.objectives import InfoNCE, SigLIP
a, b = (torch.randn(int(sys.argv[1]), 16, 16).requires_grad_() for _ in range(2))
mask = torch.ones(a.shape[:2], dtype=torch.bool)
loss = InfoNCE(1.0)
loss(Embedding(a[:96], mask[:96]), Embedding(b[:96], mask[:96])).backward()
before = peak()
loss(Embedding(a, mask), Embedding(b, mask)).backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_grows_with_the_tokens_not_their_square():
    """512 rows of 16 tokens have 256 MB of token scores, and B x B x T alone is 16 MB, several times over."""
    grown = int(subprocess.check_output([sys.executable, "-c", MEMORY, "512"], text=True))
    assert grown < 24 * 1024, grown
