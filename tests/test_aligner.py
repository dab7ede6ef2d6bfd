"""The trained heads: what they do to shapes, masks, lengths and gradients."""

from __future__ import annotations

import math

import pytest
import torch

from coembed import Aligner, Embedding, load, similarity
from coembed.aligner import MLP, POOLS, Identity, Linear, aligner_for

HEADS = {"identity": (Identity, 6), "linear": (Linear, 4), "mlp": (MLP, 4)}
every = pytest.mark.parametrize(("kind", "out"), HEADS.values(), ids=HEADS.keys())


def tokens(rows: int = 3, length: int = 4, dim: int = 6, hidden: float = 0.0) -> Embedding:
    values = torch.randn(rows, length, dim, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(length) <= torch.arange(rows)[:, None]  # 1, 2, 3, … tokens
    return Embedding(values.masked_fill(~mask[..., None], hidden), mask)


def head(kind: type[Aligner], out: int, **kwargs) -> Aligner:
    torch.manual_seed(0)
    return kind(6, out, **kwargs).eval()


@every
@pytest.mark.parametrize("pool", ["mean", "first", "last"])
def test_pools_make_one_vector(kind, out, pool):
    x = tokens(hidden=math.nan)
    y = head(kind, out, pool=pool)(x)
    assert y.values.shape == (3, 1, out) and y.mask.all()
    assert torch.equal(y.values, head(kind, out)(x.pool(pool)).values), "pooling comes before the projection"


def test_pools_differ():
    x = tokens()
    mean, first, last = (head(Linear, 4, pool=pool)(x).vectors for pool in ("mean", "first", "last"))
    assert torch.allclose(mean[0], first[0]) and torch.allclose(first[0], last[0]), "one token is all three"
    assert not torch.allclose(mean[2], first[2]) and not torch.allclose(first[2], last[2])


@every
@pytest.mark.parametrize("pool", ["none", "native"])
def test_tokens_go_through_one_by_one(kind, out, pool):
    x = tokens()
    y = head(kind, out, pool=pool)(x)
    assert y.values.shape == (3, 4, out) and torch.equal(y.mask, x.mask)
    alone = head(kind, out)(Embedding.from_vectors(x.values[2, 1:2])).vectors[0]
    assert torch.allclose(y.values[2, 1], alone, atol=1e-6)


@every
@pytest.mark.parametrize("pool", POOLS)
def test_vectors_come_out_at_unit_length(kind, out, pool):
    y = head(kind, out, pool=pool)(tokens())
    assert torch.allclose(y.values.norm(dim=-1)[y.mask], torch.ones(int(y.mask.sum())), atol=1e-6)


@every
def test_late_interaction_ignores_what_is_masked(kind, out):
    clean, dirty = (head(kind, out, pool="none")(tokens(hidden=hidden)) for hidden in (0.0, 1e6))
    assert torch.equal(similarity(clean, clean), similarity(dirty, dirty))


@every
def test_absent_rows_stay_absent(kind, out):
    x = tokens()
    x = Embedding(x.values, x.mask & torch.tensor([True, False, True])[:, None])
    for pool in POOLS:
        assert head(kind, out, pool=pool)(x).present.tolist() == [True, False, True]


def test_declared_sizes_end_at_a_projection_and_survive_identity():
    x = Embedding.from_vectors(torch.randn(2, 6), sizes=(3,))
    assert head(Identity, 6)(x).sizes == (3,)
    assert head(Linear, 4)(x).sizes == () and head(MLP, 4)(x).sizes == ()


@pytest.mark.parametrize("out", [4, 6, 9])
def test_a_new_linear_head_keeps_the_geometry(out):
    weight = head(Linear, out).map.weight
    gram = weight @ weight.T if out <= 6 else weight.T @ weight
    assert torch.allclose(gram, torch.eye(len(gram)), atol=1e-5)


def test_mlp_layers_and_norm():
    shapes = [tuple(p.shape) for n, p in MLP(6, 4, hidden=8, layers=3).named_parameters() if p.ndim == 2]
    assert shapes == [(8, 6), (8, 8), (4, 8)]
    x = Embedding.from_vectors(torch.randn(2, 6))
    big = Embedding.from_vectors(x.vectors * 100)
    assert torch.allclose(head(MLP, 4)(x).values, head(MLP, 4)(big).values, atol=1e-3), "the norm takes the length off"
    assert not torch.allclose(head(MLP, 4, norm=False)(x).values, head(MLP, 4, norm=False)(big).values, atol=1e-3)


def test_dropout_only_while_training():
    x = Embedding.from_vectors(torch.randn(2, 6))
    mlp = head(MLP, 4, dropout=0.5)
    assert torch.equal(mlp(x).values, mlp(x).values)
    mlp.train()
    assert not torch.equal(mlp(x).values, mlp(x).values)


@pytest.mark.parametrize("kind", [Linear, MLP])
@pytest.mark.parametrize("pool", POOLS)
def test_gradients_reach_every_parameter_and_only_real_tokens(kind, pool):
    aligner, x = head(kind, 4, pool=pool), tokens()
    values = x.values.clone().requires_grad_()
    y = aligner(Embedding(values, x.mask))
    similarity(y, y).diagonal().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in aligner.parameters())
    assert values.grad.isfinite().all() and not values.grad[~x.mask].any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linear(6, 4, pool="max"), "pool 'max': use one of native, mean, first, last, none"),
        (lambda: Linear(0, 4), "widths 0 to 4 must be positive"),
        (lambda: Linear(6, -1), "widths 6 to -1 must be positive"),
        (lambda: Identity(6, 4), "can't go from 6 to 4: use 'linear'"),
        (lambda: MLP(6, 4, layers=1), "1 layers: at least 2, or use 'linear'"),
        (lambda: Linear(6, 4)(Embedding.from_vectors(torch.ones(1, 5))), "takes features of width 6, got 5"),
        (lambda: aligner_for(Linear(6, 4), 5, 4), "Linear goes from 6 to 4, the tower needs 5 to 4"),
    ],
)
def test_bad_use_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", HEADS)
def test_registered_names_build_and_restore(name):
    kind, out = HEADS[name]
    built = load(name, in_dim=6, out_dim=out, pool="mean")
    assert type(built) is kind and built.spec.kwargs == {"in_dim": 6, "out_dim": out, "pool": "mean"}
    other = aligner_for(name, 6, out, pool="mean")
    other.load_state_dict(built.state_dict())
    x = tokens()
    assert torch.equal(other.eval()(x).values, built.eval()(x).values)
    assert aligner_for(built, 6, out) is built


def test_an_author_writes_project():
    class Double(Aligner):
        def project(self, x: Embedding) -> Embedding:
            return Embedding(torch.cat([x.values, x.values], -1), x.mask)

    y = Double(6, 12, pool="mean")(tokens())
    assert y.dim == 12 and torch.allclose(y.vectors.norm(dim=1), torch.ones(3), atol=1e-6)
