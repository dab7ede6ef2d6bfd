"""What weights, keys, masks, extra negatives, absent rows and tiny batches do to every loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding
from coembed.objectives import Distill, InfoNCE, Matryoshka, MultiPositive, SigLIP, Triplet

CONTRASTIVE = {
    "infonce": lambda: InfoNCE(0.5),
    "infonce-forth": lambda: InfoNCE(0.5, directions="a->b"),
    "infonce-back": lambda: InfoNCE(0.5, directions="b->a"),
    "multi-positive": lambda: MultiPositive(0.5),
    "siglip": lambda: SigLIP(scale=3.0, bias=-1.0),
    "triplet-random": lambda: Triplet(0.7, mining="random").eval(),
    "triplet-semi-hard": lambda: Triplet(0.7, mining="semi-hard"),
    "triplet-hardest": lambda: Triplet(0.7, mining="hardest"),
    "matryoshka": lambda: Matryoshka(InfoNCE(0.5), dims=(8, 4)),
}
ONE_WAY = {"infonce-forth", "infonce-back"}
ALL = CONTRASTIVE | {"distill-cosine": Distill, "distill-mse": lambda: Distill("mse")}


def every(table):
    return pytest.mark.parametrize("make", table.values(), ids=table.keys())


def units(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def single(rows: int, dim: int = 8, seed: int = 0) -> Embedding:
    return Embedding.from_vectors(units(rows, dim, seed=seed))


def multi(rows: int, tokens: int, dim: int = 8, seed: int = 0) -> Embedding:
    """Multi-vectors of uneven length; what the mask hides is NaN, which must never get out."""
    values = units(rows, tokens, dim, seed=seed)
    mask = torch.arange(tokens) < 1 + (torch.arange(rows)[:, None] + seed) % tokens
    return Embedding(values.masked_fill(~mask[..., None], math.nan), mask)


def without(x: Embedding, *rows: int) -> Embedding:
    mask = x.mask.clone()
    mask[list(rows)] = False
    return Embedding(x.values.masked_fill(~mask[..., None], math.nan), mask)


@every(ALL)
def test_lower_on_aligned_than_on_shuffled(make):
    a = single(16)
    noisy = Embedding.from_vectors(F.normalize(a.vectors + 0.2 * units(16, 8, seed=5), dim=-1))
    assert make()(a, noisy) < make()(a, noisy[torch.arange(16).roll(1)])


@every({name: make for name, make in ALL.items() if name != "triplet-random"})
@pytest.mark.parametrize("tokens", [1, 3])
def test_the_order_of_pairs_does_not_matter(make, tokens):
    a, b = multi(7, tokens), multi(7, tokens, seed=1)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    weights, keys = torch.rand(7, generator=torch.Generator().manual_seed(4)), torch.tensor([0, 1, 1, 2, 3, 4, 4])
    straight = make()(a, b, weights=weights, keys=keys)
    assert make()(a[order], b[order], weights=weights[order], keys=keys[order]).item() == pytest.approx(straight.item())


@every({name: make for name, make in CONTRASTIVE.items() if name not in ONE_WAY | {"triplet-random"}})
def test_both_towers_are_alike(make):
    a, b, weights = multi(6, 3), multi(6, 2, seed=1), torch.arange(1.0, 7.0)
    assert make()(a, b, weights=weights).item() == pytest.approx(make()(b, a, weights=weights).item())


@every(ALL)
def test_weights_make_the_mean(make):
    a, b = single(6), single(6, seed=1)
    whole = make()(a, b)
    assert make()(a, b, weights=torch.full((6,), 0.3)).item() == pytest.approx(whole.item())
    alone = [make()(a, b, weights=torch.eye(6)[i]).item() for i in range(6)]  # one row's own loss each
    weights = torch.tensor([0.0, 1.0, 2.0, 0.5, 0.0, 3.0])
    expected = sum(w * loss for w, loss in zip(weights.tolist(), alone, strict=True)) / 6.5
    assert make()(a, b, weights=weights).item() == pytest.approx(expected)
    assert make()(a, b, weights=torch.zeros(6)).item() == 0


@every({name: CONTRASTIVE[name] for name in ("infonce", "multi-positive", "siglip", "triplet-hardest")})
def test_a_pair_of_weight_zero_is_still_a_negative(make):
    a = single(4)
    near = torch.stack([*a.vectors[:3], a.vectors[0]])  # the last partner is the first row's twin
    b, weights = Embedding.from_vectors(near), torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert make()(a, b, weights=weights) > make()(a[:3], b[:3]) + 0.01


@every({name: make for name, make in CONTRASTIVE.items() if name != "multi-positive"})
@pytest.mark.parametrize("tokens", [1, 3])
def test_equal_keys_are_no_negatives(make, tokens):
    a, b = multi(5, tokens), multi(5, tokens, seed=1)
    keys = torch.tensor([0, 1, 0, 2, 1])
    loss = make()
    mask = keys[:, None] == keys[None, :]
    assert torch.equal(loss(a, b, keys=keys), loss(a, b, mask=mask)), "keys are a mask that is easier to write"
    assert torch.equal(loss(a, b, keys=torch.arange(5)), loss(a, b))
    assert torch.equal(loss(a, b, mask=torch.eye(5, dtype=torch.bool)), loss(a, b)), "a partner is never taken out"
    assert isinstance(loss, Triplet) or loss(a, b, keys=keys) < loss(a, b)


@every(CONTRASTIVE)
@pytest.mark.parametrize("tokens", [1, 3])
def test_a_masked_negative_has_no_say(make, tokens):
    a, b, extra = multi(5, tokens), multi(5, tokens, seed=1), multi(3, tokens, seed=2)
    mask = torch.zeros(5, 8, dtype=torch.bool)
    mask[:, 6] = True
    mask[0, 3] = mask[3, 0] = True
    other = Embedding(extra.values.clone(), extra.mask)
    other.values[1] = units(tokens, 8, seed=9)
    given = {"mask": mask, "negatives": extra}
    assert torch.equal(make()(a, b, **given), make()(a, b, mask=mask, negatives=other))
    keep = torch.tensor([0, 1, 2, 3, 4, 5, 7])
    fewer = make()(a, b, mask=mask[:, keep], negatives=extra[[0, 2]])
    assert make()(a, b, **given).item() == pytest.approx(fewer.item())


# Semi-hard mining looks away from negatives above the partner, random mining may pick others.
IGNORES_HARD = ("infonce-back", "triplet-random", "triplet-semi-hard")


@every({name: make for name, make in CONTRASTIVE.items() if name not in IGNORES_HARD})
@pytest.mark.parametrize("tokens", [1, 3])
def test_extra_negatives_raise_the_loss(make, tokens):
    a, b = multi(5, tokens), multi(5, tokens, seed=1)
    plain = make()(a, b)
    assert make()(a, b, negatives=a) > plain, "negatives that equal the queries are the hardest there are"
    assert torch.equal(make()(a, b, negatives=a[:0]), plain)
    assert make()(a, b, negatives=without(a, *range(5))).item() == pytest.approx(plain.item())


def test_extra_negatives_only_matter_to_a():
    a, b, extra = single(4), single(4, seed=1), single(3, seed=2)
    back = InfoNCE(directions="b->a")
    assert torch.equal(back(a, b, negatives=extra), back(a, b))


@every(ALL)
@pytest.mark.parametrize("tokens", [1, 3])
def test_absent_rows_contribute_nothing(make, tokens):
    a, b, extra = multi(6, tokens), multi(6, tokens, seed=1), multi(4, tokens, seed=2)
    weights, keys = torch.tensor([1.0, 2.0, 9.0, 1.0, 3.0, 9.0]), torch.tensor([0, 1, 1, 2, 2, 0])
    mask = torch.rand(6, 10, generator=torch.Generator().manual_seed(0)) < 0.2
    gaps = make()(
        without(a, 2), without(b, 2, 5), weights=weights, keys=keys, mask=mask, negatives=without(extra, 0)
    )  # fmt: skip
    rows, columns = torch.tensor([0, 1, 3, 4]), torch.tensor([0, 1, 3, 4, 7, 8, 9])
    clean = make()(
        a[rows], b[rows], weights=weights[rows], keys=keys[rows], mask=mask[rows][:, columns], negatives=extra[1:]
    )
    assert torch.equal(gaps, clean)


@every(ALL)
def test_nothing_present_costs_nothing(make):
    a, b = single(3), single(3, seed=1)
    values = a.values.clone().requires_grad_()
    for x, y in [(Embedding(values, torch.zeros_like(a.mask)), b), (Embedding(values, a.mask)[:0], b[:0])]:
        loss = make()(x, y, negatives=single(2, seed=2))
        assert loss.item() == 0
        loss.backward()
        assert not values.grad.any()


@every(ALL)
def test_batch_of_one(make):
    a, b = single(1), single(1, seed=1)
    loss = make()(a, b)
    assert loss.isfinite() and make()(a, b, negatives=single(2, seed=2)).isfinite()
    if isinstance(make(), (InfoNCE, Triplet, Matryoshka)):
        assert loss.item() == pytest.approx(0, abs=1e-12)


@every(CONTRASTIVE)
def test_rows_without_any_negative_cost_nothing(make):
    a, b = single(4), single(4, seed=1)
    loss = make()(a, b, mask=torch.ones(4, 4, dtype=torch.bool))
    if isinstance(make(), SigLIP):  # its positive is a question of its own
        alone = [make()(a[i : i + 1], b[i : i + 1]).item() for i in range(4)]
        assert loss.item() == pytest.approx(sum(alone) / 4)
    else:
        assert loss.item() == pytest.approx(0, abs=1e-12)


@every(ALL)
def test_duplicates_are_finite(make):
    a = single(1)[torch.zeros(5, dtype=torch.int64)]
    assert make()(a, a).isfinite()


def test_half_precision_is_summed_in_single():
    a, b = single(64, 32).to(torch.bfloat16), single(64, 32, seed=1).to(torch.bfloat16)
    for make in ALL.values():
        assert make()(a, b).dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"b": single(3)}, "a has 4 rows, b 3"),
        ({"weights": torch.ones(3)}, r"weights must be \[4\]"),
        ({"keys": torch.ones(4)}, "keys must be integers"),
        ({"keys": torch.arange(5)}, r"keys must be integers \[4\]"),
        ({"mask": torch.ones(4, 4, dtype=torch.bool), "negatives": single(2)}, r"\[4, 4 \+ 2 extra negatives\]"),
        ({"mask": torch.ones(4, 4)}, "mask must be bool"),
        ({"b": single(4, dim=5)}, "dimensions"),
    ],
)
@every(ALL)
def test_bad_arguments_are_named(make, given, message):
    with pytest.raises(ValueError, match=message):
        make()(single(4), **{"b": single(4, seed=1), **given})
