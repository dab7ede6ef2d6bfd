"""The losses: their values against formulas written out, and what weights, keys, masks and negatives do to them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding, load
from coembed.objectives import Distill, InfoNCE, Matryoshka, MultiPositive, PairObjective, SigLIP, Triplet

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


# --- values -----------------------------------------------------------------------------------------------------------


def test_infonce_equals_the_sum_written_by_hand():
    scores = [[0.9, 0.1, -0.3, 0.2], [0.0, 0.5, 0.4, 0.1], [0.3, 0.3, 0.3, 0.3], [-0.5, 0.2, 0.6, 0.1]]
    a, b = Embedding.from_vectors(torch.tensor(scores).double()), Embedding.from_vectors(torch.eye(4).double())
    rows = [-math.log(math.exp(2 * s[i]) / sum(math.exp(2 * x) for x in s)) for i, s in enumerate(scores)]
    columns = [[scores[i][j] for i in range(4)] for j in range(4)]
    back = [-math.log(math.exp(2 * s[i]) / sum(math.exp(2 * x) for x in s)) for i, s in enumerate(columns)]
    for directions, expected in [
        ("a->b", sum(rows) / 4),
        ("b->a", sum(back) / 4),
        ("both", sum(rows) / 8 + sum(back) / 8),
    ]:
        assert InfoNCE(0.5, directions=directions).double()(a, b).item() == pytest.approx(expected, abs=1e-7)


def test_infonce_equals_clip():
    a, b = single(16), single(16, seed=1)
    loss = InfoNCE(temperature=0.07)
    logits = loss.scale() * a.vectors @ b.vectors.T
    labels = torch.arange(16)
    clip = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    assert loss(a, b).item() == pytest.approx(clip.item(), abs=1e-12)
    assert loss.temperature == pytest.approx(0.07)


def test_siglip_equals_the_sum_of_log_sigmoids():
    a, b = single(6), single(6, seed=1)
    sign = 2 * torch.eye(6) - 1
    expected = -F.logsigmoid(sign * (4.0 * a.vectors @ b.vectors.T - 2.0)).sum() / 6
    assert SigLIP(scale=4.0, bias=-2.0)(a, b).item() == pytest.approx(expected.item(), rel=1e-6)
    extra = single(3, seed=2)
    expected += -F.logsigmoid(-(4.0 * a.vectors @ extra.vectors.T - 2.0)).sum() / 6
    assert SigLIP(scale=4.0, bias=-2.0)(a, b, negatives=extra).item() == pytest.approx(expected.item(), rel=1e-6)


def test_siglip_starts_near_no_for_everything():
    assert (SigLIP().scale().item(), SigLIP().bias.item()) == pytest.approx((10, -10))
    assert SigLIP().temperature == pytest.approx(0.1)


def test_multi_positive_equals_supcon_written_out():
    a, b = single(5), single(5, seed=1)
    keys = torch.tensor([3, 3, 8, 3, 9])
    loss = MultiPositive(0.5)
    expected = 0.0
    for logits in (loss.scale() * a.vectors @ b.vectors.T, loss.scale() * b.vectors @ a.vectors.T):
        log_p = logits.log_softmax(1)
        for i in range(5):
            positives = [p for p in range(5) if keys[p] == keys[i]]
            expected -= sum(log_p[i, p].item() for p in positives) / len(positives) / 10
    assert loss(a, b, keys=keys).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("keys", [None, torch.tensor([4, 2, 7, 0])])
def test_multi_positive_is_infonce_where_no_key_repeats(keys):
    a, b, extra = single(4), single(4, seed=1), single(2, seed=2)
    mask = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) < 0.3
    given = {"keys": keys, "mask": mask, "negatives": extra}
    assert torch.equal(MultiPositive()(a, b, **given), InfoNCE()(a, b, **given))


def test_a_positive_stays_positive_under_a_mask():
    a, b, keys = single(4), single(4, seed=1), torch.tensor([0, 0, 1, 2])
    mask = keys[:, None] == keys[None, :]
    assert torch.equal(MultiPositive()(a, b, keys=keys, mask=mask), MultiPositive()(a, b, keys=keys))


def test_distillation_is_the_distance_and_leaves_the_target_alone():
    a, b = single(5), single(5, seed=1)
    cosine = 1 - F.cosine_similarity(a.vectors, b.vectors).mean()
    assert Distill()(a, b).item() == pytest.approx(cosine.item(), abs=1e-12)
    assert Distill("mse")(a, b).item() == pytest.approx(F.mse_loss(a.vectors, b.vectors).item(), abs=1e-12)
    assert Distill("mse")(a, a).item() == 0
    target = b.values.clone().requires_grad_()
    source = a.values.clone().requires_grad_()
    Distill()(Embedding(source, a.mask), Embedding(target, b.mask)).backward()
    assert target.grad is None and source.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["cosine", "mse"])
def test_distillation_of_multi_vectors_wants_every_target_vector(kind):
    target = multi(3, 4, seed=1)
    shuffled = Embedding(target.values.flip(1), target.mask.flip(1))
    assert Distill(kind)(shuffled, target).item() == pytest.approx(0, abs=1e-12)
    one_of_each = Embedding(target.values[:, :1], target.mask[:, :1])  # a perfect match, but of one vector only
    assert Distill(kind)(one_of_each, target).item() > 0.01


def test_half_precision_is_summed_in_single():
    a, b = single(64, 32).to(torch.bfloat16), single(64, 32, seed=1).to(torch.bfloat16)
    for make in ALL.values():
        assert make()(a, b).dtype == torch.float32


# --- what every contrastive loss must do ------------------------------------------------------------------------------


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


def test_multi_vectors_are_scored_for_whoever_asks():
    a, b = multi(4, 3), multi(4, 2, seed=1)

    def maxsim(q, d):
        return torch.tensor(
            [[sum(max((v @ w).item() for w in y[my]) for v in x[mx]) for y, my in zip(d.values, d.mask, strict=True)]
             for x, mx in zip(q.values, q.mask, strict=True)]
        )  # fmt: skip

    labels = torch.arange(4)
    forth, back = F.cross_entropy(maxsim(a, b), labels).item(), F.cross_entropy(maxsim(b, a), labels).item()
    assert forth != pytest.approx(back)
    assert InfoNCE(1.0, directions="a->b")(a, b).item() == pytest.approx(forth, abs=1e-6)
    assert InfoNCE(1.0, directions="b->a")(a, b).item() == pytest.approx(back, abs=1e-6)
    assert InfoNCE(1.0)(a, b).item() == pytest.approx((forth + back) / 2, abs=1e-6)


# --- triplet mining ---------------------------------------------------------------------------------------------------

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


# --- Matryoshka -------------------------------------------------------------------------------------------------------


@every({name: make for name, make in ALL.items() if name != "matryoshka"})
def test_matryoshka_of_the_full_width_is_the_objective(make):
    a, b, extra = multi(5, 2), multi(5, 2, seed=1), multi(3, 2, seed=2)
    given = {"keys": torch.tensor([0, 0, 1, 2, 3]), "weights": torch.rand(5), "negatives": extra}
    assert torch.equal(Matryoshka(make(), dims=(8,))(a, b, **given), make()(a, b, **given))


def test_matryoshka_sums_weighted_losses_of_cut_vectors():
    a, b, extra = single(5), single(5, seed=1), single(3, seed=2)
    inner = InfoNCE(0.5)
    cut = [Embedding.from_vectors(F.normalize(x.vectors[:, :3], dim=-1)) for x in (a, b, extra)]
    expected = 0.25 * inner(a, b, negatives=extra) + 2 * inner(cut[0], cut[1], negatives=cut[2])
    outer = Matryoshka(inner, dims=[8, 3], weights=[0.25, 2])
    assert outer(a, b, negatives=extra).item() == pytest.approx(expected.item())
    assert outer.dims == (8, 3)
    assert [id(p) for p in outer.parameters()] == [id(p) for p in inner.parameters()]


def test_matryoshka_wraps_names_and_wrappers():
    outer = load("matryoshka", objective="siglip", dims=(8, 4))
    assert isinstance(outer.objective, SigLIP) and outer.spec.name == "matryoshka"
    nested = Matryoshka(Matryoshka(Distill(), dims=(2,)), dims=(4, 8))
    assert nested.dims == (4, 8)
    assert nested(single(3), single(3, seed=1)).item() == pytest.approx(
        2 * Matryoshka(Distill(), dims=(2,))(single(3), single(3, seed=1)).item()
    )


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: InfoNCE(0.0), "temperature 0"),
        (lambda: InfoNCE(0.001), "at least 1 / max_scale = 0.01"),
        (lambda: InfoNCE(directions="a<->b"), "'both', 'a->b' or 'b->a'"),
        (lambda: SigLIP(scale=-1.0), "scale of -1"),
        (lambda: SigLIP(bias=math.nan), "bias nan"),
        (lambda: Triplet(-0.1), "margin -0.1"),
        (lambda: Triplet(mining="easy"), "'random', 'semi-hard' or 'hardest'"),
        (lambda: Distill("l1"), "'cosine' or 'mse'"),
        (lambda: Matryoshka("infonce", dims=()), "each positive width once"),
        (lambda: Matryoshka("infonce", dims=(4, 4)), "each positive width once"),
        (lambda: Matryoshka("infonce", dims=(4, 2), weights=[1.0]), "one non-negative factor"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


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


def test_matryoshka_wider_than_the_vectors_is_refused():
    with pytest.raises(ValueError, match=r"\(16, 4\) do not fit vectors of width 8"):
        Matryoshka("infonce", dims=(16, 4))(single(2), single(2))


def test_registered_names_build():
    for name in ("infonce", "siglip", "triplet", "multi-positive", "distill"):
        assert isinstance(load(name), PairObjective) and load(name).dims == ()
