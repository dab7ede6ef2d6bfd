"""Closed-form aligners: planted maps come back, CCA equals two references, and what can't be solved is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from coembed import Embedding, Space, Tower, load
from coembed.closed import CCA, Procrustes
from coembed.testing import toy_encoder

BOTH = pytest.mark.parametrize("kind", [Procrustes, CCA])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(x: torch.Tensor) -> Embedding:
    return Embedding.from_vectors(x)


def rotation(dim: int, seed: int = 9) -> torch.Tensor:
    return torch.linalg.qr(normal(dim, dim, seed=seed)).Q


def agree(left, right, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine of each pair after alignment."""
    return (left(rows(a)).vectors * right(rows(b)).vectors).sum(1)


def correlated(n: int, p: int, q: int, shared: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    common = normal(n, shared, seed=seed)
    left = torch.cat([common + 0.5 * normal(n, shared, seed=seed + 1), normal(n, p - shared, seed=seed + 2)], 1)
    right = torch.cat([common + 0.8 * normal(n, shared, seed=seed + 3), normal(n, q - shared, seed=seed + 4)], 1)
    return left @ normal(p, p, seed=seed + 5) + 3, right @ normal(q, q, seed=seed + 6) - 1


@pytest.mark.parametrize("scale", [False, True])
def test_planted_rotation_comes_back(scale):
    a, turn = normal(50, 8) + 2.0, rotation(8)
    b = 3.0 * a @ turn + torch.arange(8.0)  # turned, scaled and moved
    left, right = Procrustes.fit(rows(a), rows(b), scale=scale)
    assert torch.allclose(left.weight, turn * (3 if scale else 1), atol=1e-9)
    assert torch.equal(right.weight, torch.eye(8).double())
    assert torch.allclose(agree(left, right, a, b), torch.ones(50).double(), atol=1e-9)
    assert torch.allclose(left.project(rows(a)).vectors * (1 if scale else 3), right.project(rows(b)).vectors)


def test_planted_rotation_comes_back_in_single_precision():
    a, turn = normal(200, 16).float(), rotation(16).float()
    left, _ = Procrustes.fit(rows(a), rows(a @ turn))
    assert left.weight.dtype == torch.float32
    assert torch.allclose(left.weight, turn, atol=1e-6)


def test_rotation_survives_noise_that_breaks_least_squares():
    a, turn = normal(40, 32), rotation(32)
    b = a @ turn + 0.5 * normal(40, 32, seed=1)
    left, _ = Procrustes.fit(rows(a), rows(b))
    free = torch.linalg.lstsq(a, b).solution
    assert (left.weight - turn).norm() < (free - turn).norm()


@pytest.mark.parametrize(
    ("p", "q", "size"), [(8, 8, 8), (5, 8, 8), (8, 5, 5), (8, 5, 8), (5, 8, 5), (6, 8, 4), (8, 6, 1)]
)
def test_maps_are_orthogonal_and_solve_for_different_widths(p, q, size):
    core = normal(60, min(p, q)) * torch.arange(min(p, q), 0, -1)  # falling variance, so that cut directions differ
    a, b = core @ rotation(p)[: core.shape[1]], core @ rotation(q, seed=4)[: core.shape[1]]
    left, right = Procrustes.fit(rows(a), rows(b), size)
    for half, width in ((left, p), (right, q)):
        assert half.weight.shape == (width, size)
        gram = half.weight.T @ half.weight if width >= size else half.weight @ half.weight.T
        assert torch.allclose(gram, torch.eye(len(gram)).double(), atol=1e-10)
    assert agree(left, right, a, b).min() > 1 - 1e-9, "the shared part is the same on both sides"


def test_no_orthogonal_map_does_better():
    a, b = normal(60, 6), normal(60, 6, seed=1)
    left, right = Procrustes.fit(rows(a), rows(b), center=False)
    best = (left.project(rows(a)).vectors - right.project(rows(b)).vectors).norm()
    for seed in range(50):
        assert (a @ rotation(6, seed=seed) - b).norm() > best


def test_cut_directions_carry_most_covariance():
    a, b = normal(200, 6), normal(200, 5, seed=1)
    b[:, 0] += 3 * a[:, 4]
    left, right = Procrustes.fit(rows(a), rows(b), 1)
    assert left.weight.abs().argmax() == 4 and right.weight.abs().argmax() == 0


@pytest.mark.parametrize("out_dim", [0, 7, 9, -1])
def test_other_widths_are_refused(out_dim):
    with pytest.raises(ValueError, match=f"out_dim {out_dim} must be 6, 8 or less than both"):
        Procrustes.fit(rows(normal(20, 6)), rows(normal(20, 8)), out_dim)


def test_centring_closes_the_gap_between_modalities():
    a = normal(80, 6)
    b = a @ rotation(6) + 5.0
    gap = [agree(*Procrustes.fit(rows(a), rows(b), center=center), a, b).mean() for center in (True, False)]
    assert gap[0] > 0.999 and gap[1] < 0.9


@pytest.mark.parametrize("case", ["few rows", "low rank"])
def test_what_the_pairs_leave_open_stays_orthogonal(case):
    n, turn = (5 if case == "few rows" else 50), rotation(12)
    a = normal(n, 12)
    if case == "low rank":
        a[:, 4:] = 0
    left, right = Procrustes.fit(rows(a), rows(a @ turn))
    assert torch.allclose(left.weight @ left.weight.T, torch.eye(12).double(), atol=1e-10)
    assert agree(left, right, a, a @ turn).min() > 1 - 1e-9


def test_cca_equals_sklearn():
    cross = pytest.importorskip("sklearn.cross_decomposition")
    a, b = correlated(400, 6, 5)
    theirs = cross.CCA(n_components=4, scale=False, max_iter=20_000, tol=1e-12).fit(a.numpy(), b.numpy())
    x, y = theirs.transform(a.numpy(), b.numpy())
    expected = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(4)]
    left, right = CCA.fit(rows(a), rows(b), 4, regularization=0.0)
    assert left.correlations.numpy() == pytest.approx(np.array(expected), abs=1e-6)
    ours = left.project(rows(a)).vectors.numpy()
    for i in range(4):  # the same directions, up to sign and length
        assert abs(np.corrcoef(ours[:, i], x[:, i])[0, 1]) == pytest.approx(1, abs=1e-5)
    assert torch.equal(left.correlations, right.correlations)


@pytest.mark.parametrize("regularization", [0.0, 0.3])
def test_cca_equals_the_eigenvalue_problem(regularization):
    a, b = correlated(300, 6, 4)
    x, y = (a - a.mean(0)).numpy(), (b - b.mean(0)).numpy()
    ridge = [regularization * np.trace(m.T @ m) / m.shape[1] * np.eye(m.shape[1]) for m in (x, y)]
    cxx, cyy, cxy = x.T @ x + ridge[0], y.T @ y + ridge[1], x.T @ y
    squares = np.linalg.eigvals(np.linalg.solve(cxx, cxy) @ np.linalg.solve(cyy, cxy.T)).real
    left, right = CCA.fit(rows(a), rows(b), regularization=regularization)
    assert left.out_dim == 4
    assert left.correlations.numpy() == pytest.approx(np.sqrt(np.sort(squares)[::-1][:4]), abs=1e-8)
    assert (left.correlations.diff() <= 1e-12).all()
    cross = (x @ left.weight.numpy()).T @ (y @ right.weight.numpy()) / (len(x) - 1)
    assert cross == pytest.approx(np.diag(left.correlations.numpy()), abs=1e-8), "directions meet only their own kind"
    if regularization == 0:
        for half, rows_ in ((left, x), (right, y)):
            assert np.cov(rows_ @ half.weight.numpy(), rowvar=False) == pytest.approx(np.eye(4), abs=1e-8)


def test_cca_finds_the_planted_directions_and_no_others():
    a, b = correlated(3000, 8, 7, shared=3)
    correlations = CCA.fit(rows(a), rows(b), regularization=0.0)[0].correlations
    assert correlations[:3].min() > 0.6 and correlations[3:].max() < 0.15


def test_cca_does_not_mind_a_change_of_axes():
    a, b = correlated(300, 6, 5)
    plain = CCA.fit(rows(a), rows(b), regularization=0.0)[0].correlations
    bent = CCA.fit(rows(a @ normal(6, 6, seed=8) + 7), rows(b), regularization=0.0)[0].correlations
    assert torch.allclose(plain, bent, atol=1e-9)
    turned = CCA.fit(rows(a @ rotation(6)), rows(5 * b), regularization=0.2)[0].correlations
    assert torch.allclose(CCA.fit(rows(a), rows(b), regularization=0.2)[0].correlations, turned, atol=1e-9)


def test_rank_deficiency_leaves_fewer_directions():
    a, b = correlated(200, 6, 5)
    a = torch.cat([a, a[:, :2]], 1)  # 8 columns of rank 6
    b = b @ torch.diag(torch.tensor([1.0, 1, 1, 0, 0])).double()
    for regularization in (0.0, 0.1):
        left, right = CCA.fit(rows(a), rows(b), regularization=regularization)
        assert left.out_dim == right.out_dim == 3
        assert left.weight.isfinite().all() and right.weight.isfinite().all()
        with pytest.raises(ValueError, match="3 directions in common, so out_dim 4"):
            CCA.fit(rows(a), rows(b), 4, regularization=regularization)


def test_directions_below_the_features_rounding_do_not_count():
    a = normal(300, 6).float()
    a[:, 5] = a[:, :5].sum(1) * 0.1  # exact but for single-precision rounding
    left, _ = CCA.fit(rows(a), rows(a), regularization=0.0)
    assert left.out_dim == 5 and left.weight.abs().max() < 1e3


def test_fewer_rows_than_dimensions_need_regularization():
    a, b = normal(20, 32), normal(20, 40, seed=1)
    with pytest.raises(ValueError, match="20 pairs in 40 dimensions fits anything: give a regularization"):
        CCA.fit(rows(a), rows(b), regularization=0.0)
    left, _ = CCA.fit(rows(a), rows(b), 10, regularization=0.5)
    assert left.correlations.max() < 0.99, "chance agreement is damped"
    assert CCA.fit(rows(a), rows(b))[0].out_dim == 19


def test_regularization_generalises_where_plain_cca_memorises():
    a, b = correlated(400, 60, 60, shared=10)
    held = slice(90, None)
    scores = []
    for regularization in (0.0, 0.1):
        left, right = CCA.fit(rows(a[:90]), rows(b[:90]), 10, regularization=regularization)
        scores.append(agree(left, right, a[held], b[held]).mean())
    assert scores[1] > scores[0] + 0.05


@BOTH
def test_retrieval_after_alignment(kind):
    a, b = correlated(1000, 12, 10, shared=8)
    left, right = kind.fit(rows(a), rows(b), 8)
    x, y = left(rows(a)).vectors, right(rows(b)).vectors
    ranks = (x @ y.T > (x * y).sum(1, keepdim=True)).sum(1).double()
    assert ranks.median() < (100 if kind is CCA else 250), "chance is 500"


@BOTH
def test_absent_rows_and_their_partners_are_ignored(kind):
    a, b = correlated(60, 6, 5)
    keep = torch.ones(60, dtype=torch.bool)
    keep[[3, 17, 40]] = False
    present = torch.ones(2, 60, 1, dtype=torch.bool)
    present[0, [3, 17]] = False
    present[1, 40] = False
    hollow = a.clone()
    hollow[[3, 17]] = math.nan  # what the mask hides may be anything
    gaps = kind.fit(Embedding(hollow[:, None], present[0]), Embedding(b[:, None], present[1]), 4)
    clean = kind.fit(rows(a[keep]), rows(b[keep]), 4)
    for one, other in zip(gaps, clean, strict=True):
        assert torch.equal(one.weight, other.weight) and torch.equal(one.mean, other.mean)


@BOTH
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda a, b: (a.index_fill(0, torch.tensor([4, 9]), math.nan), b),
            "2 rows of a hold NaN or infinity, .* row 4",
        ),
        (lambda a, b: (a, b.index_fill(0, torch.tensor([2]), math.inf)), "1 rows of b hold NaN or infinity, .* row 2"),
        (lambda a, b: (a, b[:-1]), "a has 30 rows, b 29"),
        (lambda a, b: (a[:1], b[:1]), "at least two pairs, got 1"),
        (lambda a, b: (torch.ones(30, 6).double() * 0.1, b), "rows of a are all the same"),
    ],
)
def test_what_cannot_be_fitted_is_refused(kind, spoil, message):
    a, b = spoil(*correlated(30, 6, 5))
    with pytest.raises(ValueError, match=message):
        kind.fit(rows(a), rows(b))


@BOTH
def test_multi_vectors_are_pooled_or_refused(kind):
    a, b = correlated(40, 6, 5)
    tokens = Embedding(torch.stack([a - 1, a + 1, a * math.nan], 1), torch.tensor([[True, True, False]]).expand(40, 3))
    with pytest.raises(ValueError, match=r"pool\(\) them first"):
        kind.fit(tokens, rows(b), 4)
    pooled, plain = kind.fit(tokens, rows(b), 4, pool="mean"), kind.fit(rows(a), rows(b), 4)
    assert torch.allclose(pooled[0].weight, plain[0].weight) and pooled[0].pool == "mean"
    assert pooled[0](tokens).single


@BOTH
def test_an_unfitted_aligner_says_so_and_takes_fitted_state(kind):
    name = kind.__name__.lower()
    empty = load(name, in_dim=6, out_dim=4)
    with pytest.raises(RuntimeError, match=rf"not fitted: {kind.__name__}.fit\(a, b\)"):
        empty(rows(normal(2, 6)))
    a, b = (x.float() for x in correlated(40, 6, 5))
    left, right = kind.fit(rows(a), rows(b), 4)
    empty.load_state_dict(left.state_dict())
    assert torch.equal(empty(rows(a)).values, left(rows(a)).values)
    assert not list(left.parameters()), "there is nothing to train"
    assert left.spec.name == name and left.spec.kwargs["in_dim"] == 6 and right.spec.kwargs["in_dim"] == 5


@BOTH
def test_fits_are_repeatable_and_leave_half_precision_features_usable(kind):
    a, b = (x.bfloat16() for x in correlated(40, 6, 5))
    left, again = kind.fit(rows(a), rows(b), 4)[0], kind.fit(rows(a), rows(b), 4)[0]
    assert torch.equal(left.weight, again.weight) and left.weight.dtype == torch.float32
    assert left(rows(a)).values.dtype == torch.bfloat16


@BOTH
def test_halves_make_a_space_that_saves(kind, tmp_path):
    texts = [f"item number {i}, {'abcdefgh'[i % 8] * 3}" for i in range(40)]
    encoders = toy_encoder(dim=8), toy_encoder(dim=6)
    left, right = kind.fit(*(encoder.encode(texts) for encoder in encoders), 4)
    space = Space({"a": Tower(encoders[0], left), "b": Tower(encoders[1], right)})
    space.save(tmp_path / "space")
    given = {"a": Tower(encoders[0], load(kind.__name__.lower(), in_dim=8, out_dim=4))}
    given["b"] = Tower(encoders[1], load(kind.__name__.lower(), in_dim=6, out_dim=4))
    loaded = Space.load(tmp_path / "space", towers=given)
    assert torch.equal(loaded.encode("a", texts).values, space.encode("a", texts).values)


def test_bad_regularization_is_refused():
    for value in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="regularization"):
            CCA(4, 2, regularization=value)
