"""Query transforms: projections that are projections, and the gap between modalities that closes."""

from __future__ import annotations

import json

import pytest
import torch

from coembed import Embedding
from coembed.metrics import modality_gap
from coembed_retrieval import Center, ProjectOut, Subspace, Whiten, project_out


def drawn(rows, dim=24, tokens=1, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, tokens, dim, generator=generator, dtype=dtype)
    mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (rows, 1), generator=generator)
    return Embedding(values, mask).normalize()


def test_p_is_symmetric_and_its_own_square():
    p = Subspace.of(drawn(5)).projection
    assert torch.allclose(p, p.T, atol=1e-14) and torch.allclose(p @ p, p, atol=1e-14)


@pytest.mark.parametrize("tokens", [1, 6])
def test_nothing_of_the_undesired_is_left_at_one_and_all_at_zero(tokens):
    x, undesired = drawn(7, tokens=tokens), drawn(3, tokens=tokens, seed=1)
    left = project_out(x, undesired)
    assert (left.values[left.mask] @ undesired.values[undesired.mask].T).abs().max() < 1e-6
    assert torch.equal(left.mask, x.mask)
    assert torch.equal(project_out(x, undesired, alpha=0).values, x.values)
    half = project_out(x, undesired, alpha=0.5)
    one, some = (left.values - x.values).norm(), (half.values - x.values).norm()
    assert 0 < some < one


def test_vectors_get_their_length_back():
    x = drawn(7, dtype=torch.float64)
    long = Embedding(3 * x.values, x.mask)
    assert torch.allclose(project_out(x, drawn(2, seed=1)).vectors.norm(dim=1), torch.ones(7, dtype=torch.float64))
    assert torch.allclose(project_out(long, drawn(2, seed=1)).values, 3 * project_out(x, drawn(2, seed=1)).values)


def test_what_is_orthogonal_stays_and_what_lies_within_is_gone():
    undesired = drawn(4, seed=1)
    orthogonal = project_out(drawn(7), undesired)
    assert torch.allclose(project_out(orthogonal, undesired).values, orthogonal.values, atol=1e-6)
    mixed = Embedding.from_vectors(torch.randn(3, 4) @ undesired.vectors).normalize()
    assert torch.equal(project_out(mixed, undesired).values, torch.zeros_like(mixed.values)), "no direction of rounding"


def test_undesired_vectors_of_less_rank_take_no_axis_that_is_not_theirs():
    three = drawn(3, seed=1)
    fourth = (three.vectors[:1] + 2 * three.vectors[1:2]) / 3
    four = Embedding.from_vectors(torch.cat([three.vectors, fourth]))
    assert Subspace.of(four).rank == 3
    assert torch.allclose(Subspace.of(four).projection, Subspace.of(three).projection, atol=1e-5)


def test_rank_takes_the_strongest_directions():
    base = torch.eye(8)[:3] * torch.tensor([[10.0], [5.0], [0.1]])
    x = Embedding.from_vectors(torch.ones(1, 8))
    left = project_out(x, Embedding.from_vectors(base), rank=2).vectors[0]
    assert torch.allclose(left[:2], torch.zeros(2), atol=1e-6) and (left[2:] > 0).all()


def test_masked_tokens_count_for_nothing():
    values = torch.randn(2, 3, 8)
    values[:, 2] = float("nan")
    mask = torch.tensor([[True, True, False]] * 2)
    x, undesired = Embedding(values, mask), Embedding(values[:1].flip(1).roll(-1, 1), mask[:1])
    left = project_out(x, undesired)
    assert left.values.isfinite().all() and Subspace.of(undesired).rank == 2


def test_bad_subspaces_are_refused():
    x = drawn(3)
    for undesired, said in (
        (drawn(3, dim=8), "width 24, what is undesired has width 8"),
        (drawn(60), "span all 24 dimensions"),
        (Embedding.from_vectors(torch.zeros(2, 24)), "not all zero"),
        (Embedding(torch.ones(1, 1, 24), torch.zeros(1, 1, dtype=torch.bool)), "must be vectors"),
        (Embedding.from_vectors(torch.full((1, 24), float("nan"))), "finite"),
    ):
        with pytest.raises(ValueError, match=said):
            project_out(x, undesired)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="alpha"):
            project_out(x, drawn(1, seed=1), alpha=alpha)
    assert project_out(x, drawn(60), rank=3).vectors.norm(dim=1).min() > 0.9, "rank= leaves something"


def test_as_a_stage_it_is_the_same():
    x, undesired = drawn(5), drawn(2, seed=1)
    assert torch.equal(ProjectOut(undesired, alpha=0.7)(x).values, project_out(x, undesired, alpha=0.7).values)
    with pytest.raises(ValueError, match="alpha"):
        ProjectOut(undesired, alpha=2)


def modalities(rows=400, dim=16, seed=0):
    """Pairs that agree in half of the space and lie in two distant cones, with two loud directions."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(rows, dim, generator=generator) * torch.linspace(3, 0.3, dim)
    sides = {}
    for name, sign in (("image", 1.0), ("text", -1.0)):
        offset = torch.zeros(dim)
        offset[dim // 2] = sign * 6
        noise = torch.randn(rows, dim, generator=generator)
        sides[name] = Embedding.from_vectors(shared + 0.3 * noise + offset).normalize()
    return sides


def recall(x):
    best = (x["text"].vectors @ x["image"].vectors.T).argmax(1)
    return (best == torch.arange(len(best))).float().mean().item()


def test_centring_closes_the_gap_of_vectors_it_was_not_fitted_to(tmp_path):
    train, test = modalities(seed=0), modalities(seed=1)
    center = Center().fit(train)
    after = {name: center(name, x) for name, x in test.items()}
    assert modality_gap(after["image"], after["text"]) < 0.2 * modality_gap(test["image"], test["text"])
    assert torch.allclose(after["text"].vectors.norm(dim=1), torch.ones(400), atol=1e-6)
    assert recall(after) > recall(test)
    center.save(tmp_path / "c")
    again = Center.load(tmp_path / "c")
    assert torch.equal(again["text"](test["text"]).values, after["text"].values)


@pytest.mark.parametrize("shared", [True, False])
def test_whitening_makes_directions_equally_strong(shared, tmp_path):
    train, test = modalities(seed=0), modalities(seed=1)
    whiten = Whiten(shared=shared, shrink=0.01).fit(train)
    white = {name: whiten(name, x) for name, x in test.items()}

    def spread(x):
        return torch.linalg.eigvalsh(x.vectors.T.cov())[[0, -1]]

    low, high = spread(white["text"])
    before_low, before_high = spread(test["text"])
    assert high / low < 0.1 * before_high / before_low
    assert recall(white) > recall(test)
    assert (len({id(m) for m in whiten.maps.values()}) == 1) == shared
    whiten.save(tmp_path / "w")
    again = Whiten.load(tmp_path / "w")
    assert torch.equal(again("text", test["text"]).values, white["text"].values) and again.shared == shared


def test_whitening_that_is_shrunk_whole_only_centres():
    train = modalities()
    only = Whiten(shrink=1.0).fit(train)("text", train["text"]).values
    assert torch.allclose(only, Center().fit(train)("text", train["text"]).values, atol=1e-6)


def test_transforms_refuse_what_they_were_not_fitted_to(tmp_path):
    center = Center().fit(modalities())
    for call, said in (
        (lambda: center("audio", drawn(1)), "fitted to image, text, not to 'audio'"),
        (lambda: center["audio"], "not to 'audio'"),
        (lambda: center("text", drawn(1, dim=8)), "at width 16, got width 8"),
        (lambda: Center().fit({"text": drawn(0)}), "must be there"),
        (lambda: Whiten(shrink=0).fit({"text": drawn(5)}), "don't vary in every direction"),
        (lambda: Whiten().fit({"a": drawn(50), "b": drawn(50, dim=8)}), "shared=False"),
        (lambda: Center.load(tmp_path), "not a saved center"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    center.save(tmp_path / "c")
    with pytest.raises(ValueError, match="its kind is center, not whiten"):
        Whiten.load(tmp_path / "c")
    facts = json.loads((tmp_path / "c" / "transform.json").read_text())
    assert facts == {"kind": "center", "towers": ["image", "text"]}
