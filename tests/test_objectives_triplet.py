"""Triplet: which negative each kind of mining picks, and where its random draws come from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding
from coembed.objectives import Triplet


def units(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def single(rows: int, dim: int = 8, seed: int = 0) -> Embedding:
    return Embedding.from_vectors(units(rows, dim, seed=seed))


SCORES = torch.tensor([[0.5, 0.4, 0.9, 0.1], [0.2, 0.0, 0.7, 0.3], [0.1, 0.2, 0.6, 0.5], [0.0, 0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("mining", "columns"),
    # Row 0: 0.4 is the hardest below its partner's 0.5. Row 1: all beat its partner, 0.2 by least.
    [("hardest", [2, 2, 3, 0]), ("semi-hard", [1, 0, 3, 0])],
)
def test_mining_picks_what_its_name_says(mining, columns):
    loss = Triplet(0.2, mining=mining, directions="a->b")
    assert loss.mine(SCORES, ~torch.eye(4, dtype=torch.bool)).tolist() == columns
    a, b = Embedding.from_vectors(SCORES), Embedding.from_vectors(torch.eye(4))
    hinges = [max(0.0, 0.2 + SCORES[i, j].item() - SCORES[i, i].item()) for i, j in enumerate(columns)]
    assert loss(a, b).item() == pytest.approx(sum(hinges) / 4)


def test_random_mining_is_uniform_over_negatives_and_nothing_else():
    loss = Triplet(mining="random")
    negative = torch.zeros(3000, 6, dtype=torch.bool)
    negative[:, [1, 3, 4]] = True
    counts = loss.mine(torch.zeros(3000, 6), negative).bincount(minlength=6)
    assert counts[[0, 2, 5]].sum() == 0 and counts[[1, 3, 4]].min() > 900


def test_random_mining_depends_on_seed_and_step_alone():
    a, b = single(32), single(32, seed=1)
    state = torch.get_rng_state()
    loss = Triplet(mining="random", seed=5)
    first, second = loss(a, b), loss(a, b)
    assert first != second, "each training call draws anew"
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not touched"
    torch.manual_seed(77)
    again = Triplet(mining="random", seed=5)
    assert again(a, b) == first
    resumed = Triplet(mining="random", seed=5)
    resumed.load_state_dict(again.state_dict())
    assert resumed(a, b) == second
    assert Triplet(mining="random", seed=6)(a, b) != first
    assert again.eval()(a, b) == again(a, b), "evaluation does not move the count"


def test_hardest_costs_most():
    a, b = single(32), single(32, seed=1)
    hardest, semi, random = (Triplet(mining=mining)(a, b) for mining in ("hardest", "semi-hard", "random"))
    assert hardest > random and hardest > semi
