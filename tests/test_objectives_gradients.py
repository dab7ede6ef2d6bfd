"""The losses' gradients: against finite differences, finite everywhere, exact for the learned scalars."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from coembed import Embedding
from coembed.objectives import Distill, InfoNCE, Matryoshka, MultiPositive, SigLIP, Triplet
from coembed.objectives.scale import Scale

OBJECTIVES = {
    "infonce": lambda: InfoNCE(0.5),
    "infonce-forth": lambda: InfoNCE(0.5, directions="a->b"),
    "infonce-back": lambda: InfoNCE(0.5, directions="b->a"),
    "infonce-fixed": lambda: InfoNCE(0.5, learnable=False),
    "multi-positive": lambda: MultiPositive(0.5),
    "siglip": lambda: SigLIP(scale=3.0, bias=-1.0),
    "triplet-random": lambda: Triplet(0.7, mining="random").eval(),
    "triplet-semi-hard": lambda: Triplet(0.7, mining="semi-hard"),
    "triplet-hardest": lambda: Triplet(0.7, mining="hardest"),
    "distill-cosine": Distill,
    "distill-mse": lambda: Distill("mse"),
    "matryoshka": lambda: Matryoshka(InfoNCE(0.5), dims=(6, 3), weights=(1.0, 0.5)),
}
every = pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES.keys())


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every
@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("full", [False, True], ids=["plain", "everything"])
def test_gradients_equal_finite_differences(make, tokens, full):
    loss = make().double()
    names, scalars = zip(*loss.named_parameters(), strict=True) if list(loss.parameters()) else ((), ())
    present = torch.ones(4, tokens, dtype=torch.bool)
    given = {}
    if full:
        present[1, -1] = False  # with one token the row is absent, with two it is shorter
        mask = torch.zeros(4, 6, dtype=torch.bool)
        mask[0, 3] = mask[2, 5] = True
        given = {"weights": torch.tensor([1.0, 0.5, 0.0, 2.0]), "keys": torch.tensor([0, 1, 2, 0]), "mask": mask}

    def value(a, b, extra, *scalars):
        rows = Embedding(a, present), Embedding(b, torch.ones(4, tokens, dtype=torch.bool))
        more = {"negatives": Embedding(extra, torch.ones(2, tokens, dtype=torch.bool))} if full else {}
        return functional_call(loss, dict(zip(names, scalars, strict=True)), rows, {**given, **more})

    a, b, extra = (F.normalize(normal(n, tokens, 6, seed=n + i), dim=-1) for i, n in enumerate((4, 4, 2)))
    inputs = [a.requires_grad_(), b.requires_grad_(not isinstance(loss, Distill)), extra.requires_grad_(full)]
    inputs += [scalar.detach().clone().requires_grad_() for scalar in scalars]
    assert torch.autograd.gradcheck(value, inputs)


@every
@pytest.mark.parametrize("tokens", [1, 3])
def test_gradients_are_finite_where_rows_lack_negatives_or_are_absent(make, tokens):
    hidden = torch.ones(5, tokens, dtype=torch.bool)
    hidden[3] = False
    hidden[0, 1:] = False
    values = F.normalize(normal(5, tokens, 6, seed=0), dim=-1).masked_fill(~hidden[..., None], math.nan)
    values = values.requires_grad_()
    other = F.normalize(normal(5, tokens, 6, seed=1), dim=-1).requires_grad_()
    mask = torch.zeros(5, 5, dtype=torch.bool)
    mask[1] = True  # row 1 has no negative left, and is one to nobody
    mask[:, 1] = True
    loss = make()
    total = loss(Embedding(values, hidden), Embedding(other, torch.ones(5, tokens, dtype=torch.bool)), mask=mask)
    total.backward()
    assert total.isfinite() and values.grad.isfinite().all()
    assert not values.grad[3].any() and not values.grad[~hidden].any(), "what is hidden gets no gradient"
    if not isinstance(loss, Distill):
        assert other.grad.isfinite().all() and not other.grad[3].any()
    for parameter in loss.parameters():
        assert parameter.grad.isfinite()


@every
def test_duplicates_and_extreme_scales_have_finite_gradients(make):
    loss = make()
    for parameter in loss.parameters():
        with torch.no_grad():
            parameter.add_(4.0)
    values = torch.ones(4, 1, 6, requires_grad=True)
    x = Embedding(values, torch.ones(4, 1, dtype=torch.bool)).normalize()
    loss(x, x).backward()
    assert values.grad.isfinite().all()


def test_the_learned_temperature_gets_the_exact_gradient():
    a, b = (Embedding.from_vectors(F.normalize(normal(8, 6, seed=i), dim=-1)) for i in (0, 1))
    loss = InfoNCE(0.2, directions="a->b").double()
    loss(a, b).backward()
    scores = a.vectors @ b.vectors.T
    scale = loss.scale.log_scale.exp().detach()
    p = (scale * scores).softmax(1)
    expected = scale * ((p * scores).sum(1) - scores.diagonal()).mean()  # d loss / d log scale
    assert loss.scale.log_scale.grad.item() == pytest.approx(expected.item(), abs=1e-12)


def test_fixed_scalars_are_buffers():
    for loss in (InfoNCE(learnable=False), SigLIP(learnable=False)):
        assert not list(loss.parameters()) and loss.state_dict()
    assert set(SigLIP().state_dict()) == set(SigLIP(learnable=False).state_dict()), "one can be loaded into the other"


def test_the_scale_stops_at_its_ceiling_and_can_come_back():
    scale = Scale(50.0, ceiling=100.0)
    with torch.no_grad():
        scale.log_scale.fill_(math.log(200.0))
    assert scale().item() == 100.0
    scale().backward()  # a loss that falls when the scale falls
    assert scale.log_scale.grad.item() == pytest.approx(200.0, rel=1e-5)
    scale.log_scale.grad = None
    (-scale()).backward()  # a loss that wants more
    assert scale.log_scale.grad.item() == 0


def test_training_never_exceeds_the_ceiling():
    x = Embedding.from_vectors(torch.eye(4))  # perfect already: only a higher scale lowers the loss
    loss = InfoNCE(0.5, max_scale=4.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    temperatures = []
    for _ in range(200):
        optimizer.zero_grad()
        loss(x, x).backward()
        optimizer.step()
        temperatures.append(loss.temperature)
    assert temperatures[0] > temperatures[2] and min(temperatures) == pytest.approx(1 / 4)


def test_a_trained_map_turns_one_space_onto_another():
    b = F.normalize(normal(64, 6, seed=0), dim=-1)
    a = b @ torch.linalg.qr(normal(6, 6, seed=1)).Q
    for make in OBJECTIVES.values():
        loss, weight = make().double(), torch.eye(6, dtype=torch.float64).requires_grad_()
        optimizer = torch.optim.Adam([weight, *loss.parameters()], lr=0.05)
        ranks = []
        for step in range(151):
            moved = F.normalize(a @ weight, dim=-1)
            if step in (0, 150):
                ranks.append((moved @ b.T).argmax(1).eq(torch.arange(64)).double().mean().item())
            optimizer.zero_grad()
            loss(Embedding.from_vectors(moved), Embedding.from_vectors(b)).backward()
            optimizer.step()
        assert ranks[0] < 0.2 and ranks[1] > 0.8, f"{make}: {ranks}"
