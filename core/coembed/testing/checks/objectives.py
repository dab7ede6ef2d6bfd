"""Checks on objectives, on small random unit vectors."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.objectives import Objective
from coembed.testing.subject import Inapplicable, Subject, check, hold

ROWS, DIM = 12, 8
NOISE = 0.3
# A hinge is flat where pairs are easy: what must change a loss is tried on harder and harder pairs.
NOISES = (0.3, 1.0, 3.0, 10.0)


def _pairs(noise: float = NOISE, tokens: int = 1) -> tuple[Embedding, Embedding]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(ROWS, tokens, DIM, generator=generator, dtype=torch.float64)
    b = a + noise * torch.randn(ROWS, tokens, DIM, generator=generator, dtype=torch.float64)
    mask = torch.ones(ROWS, tokens, dtype=torch.bool)
    return Embedding(a, mask).normalize(), Embedding(b, mask).normalize()


def _harder() -> Iterator[tuple[Embedding, Embedding]]:
    return (_pairs(noise) for noise in NOISES)


def _built(subject: Subject) -> Objective:
    objective: Objective = subject.tiny()
    return objective.double().eval()


def _cost(objective: Objective, a: Embedding, b: Embedding, **given: Tensor) -> Tensor:
    loss: Tensor = objective(a, b, **given)
    hold(loss.ndim == 0, f"the loss has shape {list(loss.shape)}: reduce it to a scalar")
    return loss


@check("objective")
def prefers_aligned_pairs(subject: Subject) -> None:
    """The loss is a scalar, lower on aligned than on shuffled pairs, dense and (unless refused) multi-vector."""
    objective = _built(subject)
    for tokens in (1, 3):
        a, b = _pairs(tokens=tokens)
        try:
            aligned, shuffled = _cost(objective, a, b), _cost(objective, a, b[torch.arange(ROWS).roll(1)])
        except ValueError:
            if tokens == 1:
                raise
            return  # it takes single vectors only, and says so
        hold(
            aligned < shuffled,
            f"at T = {tokens} aligned pairs cost {aligned:.4f}, shuffled ones {shuffled:.4f}: row i of a belongs to "
            "row i of b",
        )


@check("objective")
def has_finite_gradients(subject: Subject) -> None:
    """Gradients reach both sides and are finite, also for one pair and for equal vectors."""
    objective = _built(subject).train()
    a, b = _pairs(noise=3.0)
    for what, one, two in (("pairs", a, b), ("one pair", a[:1], b[:1]), ("equal vectors", a, a)):
        left, right = (x.values.clone().requires_grad_() for x in (one, two))
        objective.zero_grad()
        loss = _cost(objective, Embedding(left, one.mask), Embedding(right, two.mask))
        hold(loss.isfinite(), f"the loss of {what} is {loss.item()}")
        hold(loss.requires_grad, f"the loss of {what} has no gradient: don't detach it")
        torch.autograd.backward(loss)
        gradients = [left.grad, right.grad, *(p.grad for p in objective.parameters())]
        hold(
            all(gradient.isfinite().all() for gradient in gradients if gradient is not None),
            f"a gradient is not finite for {what}: look for a square root or a logarithm of 0",
        )
        if what == "pairs":
            hold(left.grad is not None and left.grad.any(), "no gradient reaches side a, even of hard pairs")


@check("objective")
def treats_sides_alike(subject: Subject) -> None:
    """Where it says `symmetric`, swapping the sides changes nothing."""
    objective = _built(subject)
    if not objective.symmetric:
        raise Inapplicable("not symmetric")
    for a, b in _harder():
        one, other = _cost(objective, a, b), _cost(objective, b, a)
        hold(
            torch.allclose(one, other),
            f"symmetric = True, but a, b costs {one:.6f} and b, a {other:.6f}: average both directions, or say False",
        )


@check("objective")
def ignores_the_order_of_pairs(subject: Subject) -> None:
    """Pairs in another order give the same loss."""
    objective = _built(subject)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    for a, b in _harder():
        one, other = _cost(objective, a, b), _cost(objective, a[order], b[order])
        hold(torch.allclose(one, other), f"pairs in another order cost {other:.6f}, not {one:.6f}")


@check("objective")
def honours_weights(subject: Subject) -> None:
    """Equal weights of any size change nothing; unequal ones do."""
    objective = _built(subject)
    weights = torch.linspace(0.1, 2, ROWS, dtype=torch.float64)
    changed = False
    for a, b in _harder():
        plain, equal = _cost(objective, a, b), _cost(objective, a, b, weights=torch.full_like(weights, 3.0))
        hold(
            torch.allclose(equal, plain),
            f"equal weights of 3 give {equal:.6f}, none {plain:.6f}: the loss is the weighted mean",
        )
        changed = changed or not torch.allclose(_cost(objective, a, b, weights=weights), plain)
    hold(changed, "weights are ignored: the loss is the mean of the pairs' losses, weighted by `weights`")


@check("objective")
def honours_masks(subject: Subject) -> None:
    """Rows with one key, and masked pairs, are no negatives of each other."""
    objective = _built(subject)
    if objective.additive:
        raise Inapplicable("has no negatives")
    alike = torch.zeros(ROWS, dtype=torch.int64)
    hidden = ~torch.eye(ROWS, dtype=torch.bool)
    for what, given in (("keys", {"keys": alike}), ("mask", {"mask": hidden})):
        changed = False
        for a, b in _harder():
            masked = _cost(objective, a, b, **given)
            hold(masked.isfinite(), f"rows without negatives (by `{what}`) cost {masked.item()}: let them cost 0")
            changed = changed or not torch.allclose(masked, _cost(objective, a, b))
        hold(changed, f"`{what}` is ignored; if there are no negatives at all, say additive = True")


@check("objective")
def adds_up(subject: Subject) -> None:
    """Where it says `additive`, the batch's loss is the mean of its parts': micro-batches change nothing."""
    objective = _built(subject)
    if not objective.additive:
        raise Inapplicable("depends on the batch, by its negatives")
    half = ROWS // 2
    for a, b in _harder():
        whole, parts = (
            _cost(objective, a, b),
            (_cost(objective, a[:half], b[:half]) + _cost(objective, a[half:], b[half:])) / 2,
        )
        hold(
            torch.allclose(whole, parts),
            f"additive = True, but the batch costs {whole:.6f} and its halves {parts:.6f}: say False",
        )


@check("objective")
def leaves_absent_rows_out(subject: Subject) -> None:
    """A pair of which one side is absent contributes nothing, whatever its values hold."""
    objective = _built(subject)
    keep = torch.arange(ROWS) != 3
    for a, b in _harder():
        mask = b.mask.clone()
        mask[3] = False
        with_it, without = _cost(objective, a, Embedding(b.values, mask)), _cost(objective, a[keep], b[keep])
        hold(
            torch.allclose(with_it, without),
            f"with an absent row the loss is {with_it:.6f}, without it {without:.6f}: drop pairs unless both present",
        )
