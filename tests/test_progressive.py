"""Progressive weights, temperature ramps and the moment that they ask for."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import coembed
from coembed import Contrast, Embedding, Ramp, Records, Space, Stage, Tower, load
from coembed.moment import Moment, at, current
from coembed.objectives import InfoNCE, Matryoshka, MultiPositive, Progressive, SigLIP
from coembed.testing import toy_encoder

SIZE = 40


def batch(seed=0):
    torch.manual_seed(seed)
    a = F.normalize(torch.randn(SIZE, 6), dim=1)
    b = F.normalize(a + 0.7 * torch.randn(SIZE, 6), dim=1)
    return Embedding.from_vectors(a), Embedding.from_vectors(b)


def row_losses(inner, a, b):
    """Each pair's loss."""
    weights = torch.eye(SIZE)
    return torch.stack([inner(a, b, weights=row) for row in weights]).detach()


@pytest.mark.parametrize("inner", [InfoNCE, MultiPositive, SigLIP])
@pytest.mark.parametrize("given", [{}, {"weights": torch.linspace(0, 2, SIZE), "keys": torch.arange(SIZE) % 30}])
def test_alpha_zero_is_the_inner_objective_bit_for_bit(inner, given):
    a, b = batch()
    plain = inner()
    for loss in (Progressive(plain, alpha=0.0), Progressive(plain, alpha=Ramp(0.0, 1.5)), Progressive(plain)):
        assert torch.equal(loss(a, b, **given), plain(a, b, **given))


def test_factors_have_mean_one_and_no_gradient():
    losses = torch.rand(SIZE, requires_grad=True) * 4
    weights = torch.rand(SIZE)
    for alpha in (-1.0, 0.5, 2.0):
        loss = Progressive(alpha=alpha, guard=0.1)
        beta = loss.betas(losses, torch.ones(SIZE))
        assert beta.sum() == pytest.approx(SIZE, rel=1e-5) and not beta.requires_grad
        assert (weights * loss.betas(losses, weights)).sum() == pytest.approx(float(weights.sum()), rel=1e-5)
        assert (beta == 0).sum() == 4 and set(beta.argsort()[:4].tolist()) == set(losses.argsort()[-4:].tolist())


def test_the_gradient_of_a_pair_is_multiplied_by_its_factor():
    a, b = batch()
    loss = Progressive(InfoNCE(0.2, learnable=False), alpha=1.5)
    losses = row_losses(loss.objective, a, b)
    beta = loss.betas(losses, torch.ones(SIZE))
    x = a.vectors.clone().requires_grad_()
    whole = loss(Embedding.from_vectors(x), b)
    given = (
        beta * torch.stack([loss.objective(Embedding.from_vectors(x), b, weights=row) for row in torch.eye(SIZE)])
    ).mean()
    torch.testing.assert_close(whole, given)
    torch.testing.assert_close(*(torch.autograd.grad(total, x)[0] for total in (whole, given)))


def test_the_share_of_hard_pairs_grows_with_alpha():
    a, b = batch()
    losses = row_losses(InfoNCE(0.2), a, b)
    hard = losses >= losses.quantile(0.9)
    shares = [
        float((Progressive(alpha=alpha).betas(losses, torch.ones(SIZE)) * losses)[hard].sum()) for alpha in range(4)
    ]
    assert shares == sorted(shares) and shares[3] > 1.2 * shares[0]


def test_what_it_weighs_moves_with_the_moment_and_the_guard_ends():
    a, b = batch()
    loss = Progressive(InfoNCE(0.2), alpha=Ramp(0.0, 2.0), guard=0.25)
    losses = row_losses(loss.objective, a, b)
    dropped = []
    for share in (0.0, 0.2, 0.34, 1.0):
        with at(Moment(share=share)):
            dropped.append(int((loss.betas(losses, torch.ones(SIZE)) == 0).sum()))
    assert dropped == [10, 10, 0, 0]
    with at(Moment(share=1.0)):
        assert loss(a, b) > Progressive(InfoNCE(0.2), alpha=0.0)(a, b)
        called = Progressive(InfoNCE(0.2), alpha=lambda share: 2 * share)(a, b)
        torch.testing.assert_close(called, loss(a, b))
    assert current() == Moment()


def test_arguments():
    assert load("progressive", alpha={"start": 0.0, "end": 1.0, "shape": "linear"}).alpha == Ramp(0.0, 1.0, "linear")
    with pytest.raises(TypeError, match="one loss a pair, not Matryoshka"):
        Progressive(Matryoshka("infonce", dims=(4,)))
    assert Matryoshka(Progressive(), dims=(4, 2)).shares
    with pytest.raises(ValueError, match="guard 2"):
        Progressive(guard=2.0)
    with pytest.raises(ValueError, match="alpha of progressive is nan"):
        Progressive(alpha=lambda share: float("nan"))(*batch())
    with pytest.raises(ValueError, match="shape 'steep'"):
        Ramp(0.0, 1.0, "steep")
    with pytest.raises(ValueError, match="until 0"):
        Ramp(0.0, 1.0, until=0)
    with pytest.raises(ValueError, match="at least 1 / max_scale"):
        InfoNCE(Ramp(0.1, 0.001))


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_a_ramp_of_temperatures_is_what_the_moment_says(shape):
    a, b = batch()
    loss = InfoNCE(Ramp(0.5, 0.05, shape, until=0.5))
    assert not list(loss.parameters())
    for share, wanted in ((0.0, 0.5), (0.25, 0.275), (0.5, 0.05), (1.0, 0.05)):
        with at(Moment(share=share)):
            assert loss.temperature == pytest.approx(wanted)
            torch.testing.assert_close(loss(a, b), InfoNCE(wanted)(a, b))


def test_a_run_of_stages_moves_the_moment_in_each_stage():
    words = ["cat", "dog", "cow", "emu", "fox", "gnu"]
    model = Space({n: Tower(toy_encoder(dim=8, seed=i), "linear", dim=8, train="all") for i, n in enumerate("ab")})
    seen = []

    def alpha(share):
        seen.append((current().step, round(share, 3)))
        return 0.0

    task = Contrast(Records.pairs(a=words, b=words), "ab", Progressive(alpha=alpha))
    coembed.fit(model, tasks=[task], stages=[Stage(steps=3), Stage(steps=5)], batch_size=6)
    assert seen == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 0.0), (4, 0.25), (5, 0.5), (6, 0.75), (7, 1.0)]


def test_another_ramp_is_another_run(tmp_path):
    words = ["cat", "dog", "cow", "emu"]

    def run(**ramp):
        model = Space({n: Tower(toy_encoder(dim=8, seed=i), "linear", dim=8, train="all") for i, n in enumerate("ab")})
        task = Contrast(Records.pairs(a=words, b=words), "ab", InfoNCE(Ramp(0.5, **ramp)))
        return coembed.fit(model, tasks=[task], steps=2, out=tmp_path)

    run(end=0.1)
    assert run(end=0.1).resumed_at == 2
    with pytest.raises(coembed.training.checkpoint.ResumeError, match="ramp"):
        run(end=0.2)
