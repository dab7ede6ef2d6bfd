"""Checks on objectives, on small random unit vectors."""

from __future__ import annotations

import torch

from coembed.embedding import Embedding
from coembed.objectives import Objective
from coembed.testing.cases import Inapplicable, Subject, check

ROWS, DIM = 12, 8


def _pairs(noise: float = 0.3, tokens: int = 1) -> tuple[Embedding, Embedding]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(ROWS, tokens, DIM, generator=generator, dtype=torch.float64)
    b = a + noise * torch.randn(ROWS, tokens, DIM, generator=generator, dtype=torch.float64)
    mask = torch.ones(ROWS, tokens, dtype=torch.bool)
    return Embedding(a, mask).normalize(), Embedding(b, mask).normalize()


def _built(subject: Subject) -> Objective:
    objective: Objective = subject.tiny()
    return objective.double()


@check("objective")
def prefers_aligned_pairs(subject: Subject) -> None:
    """The loss is lower on aligned than on shuffled pairs, dense and multi-vector."""
    objective = _built(subject)
    for tokens in (1, 3):
        a, b = _pairs(tokens=tokens)
        aligned, shuffled = objective(a, b), objective(a, b[torch.arange(ROWS).roll(1)])
        assert aligned.ndim == 0, f"the loss must be a scalar, got {tuple(aligned.shape)}"
        assert aligned < shuffled, f"aligned {aligned:.4f} is not below shuffled {shuffled:.4f} at T = {tokens}"


@check("objective")
def has_finite_gradients(subject: Subject) -> None:
    """Gradients of the vectors and of its own parameters are finite, also for one pair and for equal vectors."""
    objective = _built(subject)
    for a, b in (_pairs(), tuple(x[:1] for x in _pairs()), (_pairs()[0], _pairs()[0])):
        left, right = (x.values.clone().requires_grad_() for x in (a, b))
        objective.zero_grad()
        loss = objective(Embedding(left, a.mask), Embedding(right, b.mask))
        if loss.requires_grad:
            loss.backward()
        grads = [left.grad, right.grad, *(p.grad for p in objective.parameters())]
        assert loss.isfinite() and all(g.isfinite().all() for g in grads if g is not None), "not finite"


@check("objective")
def treats_sides_alike(subject: Subject) -> None:
    """Where it says `symmetric`, swapping the sides changes nothing."""
    objective = _built(subject)
    if not objective.symmetric:
        raise Inapplicable("not symmetric")
    a, b = _pairs()
    assert torch.allclose(objective(a, b), objective(b, a)), "swapping the sides changes the loss"


@check("objective")
def ignores_the_order_of_pairs(subject: Subject) -> None:
    """Pairs in another order give the same loss."""
    objective, (a, b) = _built(subject), _pairs()
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(objective(a, b), objective(a[order], b[order])), "the order of the pairs changes the loss"


@check("objective")
def honours_weights(subject: Subject) -> None:
    """Equal weights of any size change nothing; unequal ones do."""
    objective, (a, b) = _built(subject), _pairs()
    plain = objective(a, b)
    weights = torch.linspace(0.1, 2, ROWS, dtype=torch.float64)
    assert torch.allclose(objective(a, b, weights=torch.full_like(weights, 3.0)), plain), (
        "equal weights change the loss"
    )
    assert not torch.allclose(objective(a, b, weights=weights), plain), "weights are ignored"


@check("objective")
def honours_masks(subject: Subject) -> None:
    """Rows with one key, and masked pairs, are no negatives of each other."""
    objective, (a, b) = _built(subject), _pairs()
    if objective.additive:
        raise Inapplicable("has no negatives")
    keys = torch.zeros(ROWS, dtype=torch.int64)
    everything = ~torch.eye(ROWS, dtype=torch.bool)
    for masked in (objective(a, b, keys=keys), objective(a, b, mask=everything)):
        assert masked.isfinite(), "a row without negatives gives a loss that is not finite"
        assert not torch.allclose(masked, objective(a, b)), "keys or mask are ignored"


@check("objective")
def adds_up(subject: Subject) -> None:
    """Where it says `additive`, the batch's loss is the mean of its parts': micro-batches change nothing."""
    objective, (a, b) = _built(subject), _pairs()
    if not objective.additive:
        raise Inapplicable("depends on the batch, by its negatives")
    half = ROWS // 2
    parts = (objective(a[:half], b[:half]) + objective(a[half:], b[half:])) / 2
    assert torch.allclose(objective(a, b), parts), "the mean over the batch depends on micro-batching"


@check("objective")
def leaves_absent_rows_out(subject: Subject) -> None:
    """A pair of which one side is absent contributes nothing."""
    objective, (a, b) = _built(subject), _pairs()
    mask = b.mask.clone()
    mask[3] = False
    keep = torch.arange(ROWS) != 3
    absent = objective(a, Embedding(b.values, mask))
    assert torch.allclose(absent, objective(a[keep], b[keep])), "an absent row changes the loss"
