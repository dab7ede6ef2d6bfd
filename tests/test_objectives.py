"""The losses: their values against formulas written out, and the settings that they refuse."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from coembed import Embedding, load
from coembed.objectives import Distill, InfoNCE, Matryoshka, MultiPositive, PairObjective, SigLIP, Triplet


def units(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def single(rows: int, dim: int = 8, seed: int = 0) -> Embedding:
    return Embedding.from_vectors(units(rows, dim, seed=seed))


def multi(rows: int, tokens: int, dim: int = 8, seed: int = 0) -> Embedding:
    """Multi-vectors of uneven length; what the mask hides is NaN, which must never get out."""
    values = units(rows, tokens, dim, seed=seed)
    mask = torch.arange(tokens) < 1 + (torch.arange(rows)[:, None] + seed) % tokens
    return Embedding(values.masked_fill(~mask[..., None], math.nan), mask)


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


def test_masks_leave_the_denominator_of_either_direction():
    a, b = single(6), single(6, seed=1)
    loss = InfoNCE(0.5)
    mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) < 0.4  # not symmetric
    hidden = mask & ~torch.eye(6, dtype=torch.bool)
    logits = (loss.scale() * a.vectors @ b.vectors.T).masked_fill(hidden, -torch.inf)
    labels = torch.arange(6)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    assert loss(a, b, mask=mask).item() == pytest.approx(expected.item(), abs=1e-12)


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


@pytest.mark.parametrize("kind", ["cosine", "mse"])
def test_distillation_never_matches_padding(kind):
    a, b = single(3), Embedding.from_vectors(-units(3, 8))  # opposite: nothing would be nearer than zeros
    assert Distill(kind)(a.pad(4), b.pad(3)).item() == pytest.approx(Distill(kind)(a, b).item(), abs=1e-12)


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


def test_matryoshka_wider_than_the_vectors_is_refused():
    with pytest.raises(ValueError, match=r"\(16, 4\) do not fit vectors of width 8"):
        Matryoshka("infonce", dims=(16, 4))(single(2), single(2))


def test_registered_names_build():
    for name in ("infonce", "siglip", "triplet", "multi-positive", "distill"):
        assert isinstance(load(name), PairObjective) and load(name).dims == ()
