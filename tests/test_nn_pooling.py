"""Pooling: one vector a row, from real tokens alone."""

from __future__ import annotations

import pytest
import torch

from coembed.embedding import Embedding
from coembed.nn.pooling import POOLINGS, Attention, Last, Mean, WeightedMean

ALL = pytest.mark.parametrize("name", list(POOLINGS))
MASK = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]]).bool()


def values(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pooling(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return POOLINGS[name](3).double()


@ALL
@pytest.mark.parametrize("filler", [1e9, -1e9, float("nan"), float("inf")])
def test_masked_tokens_never_count(name, filler):
    pool, x = pooling(name), values()
    out = pool(Embedding(x.masked_fill(~MASK[..., None], filler), MASK, (2,)))
    assert out.values.shape == (4, 1, 3) and out.sizes == (2,)
    assert torch.equal(out.values, pool(Embedding(x, MASK)).values)
    assert out.mask.tolist() == [[True], [True], [True], [False]]
    assert (out.values[3] == 0).all()


@ALL
def test_a_row_equals_its_real_tokens_alone(name):
    pool, x = pooling(name), values()
    out = pool(Embedding(x, MASK)).vectors
    for i in range(3):
        real = x[i][MASK[i]][None]
        alone = pool(Embedding(real, torch.ones(real.shape[:2], dtype=torch.bool))).vectors[0]
        assert torch.allclose(out[i], alone, rtol=0, atol=1e-12)


EXPECTED = {
    "mean": lambda r: r.mean(0),
    "first": lambda r: r[0],
    "last": lambda r: r[-1],
    "max": lambda r: r.max(0).values,
    "weighted_mean": lambda r: sum((i + 1) * t for i, t in enumerate(r)) / sum(range(1, len(r) + 1)),
    "attention": lambda r: ((r @ pooling("attention").query) / 3**0.5).softmax(0) @ r,
}


@ALL
def test_the_definition(name):
    x = values()
    out = pooling(name)(Embedding(x, MASK)).vectors
    for i in range(3):
        assert torch.allclose(out[i], EXPECTED[name](x[i][MASK[i]]), rtol=0, atol=1e-12)


@ALL
def test_gradients_are_right_and_stay_out_of_padding(name):
    pool = pooling(name)
    assert torch.autograd.gradcheck(lambda x: pool(Embedding(x, MASK)).values, values().requires_grad_())
    x = values().masked_fill(~MASK[..., None], float("nan")).requires_grad_()
    pool(Embedding(x, MASK)).values.pow(2).sum().backward()
    assert x.grad.isfinite().all() and (x.grad[~MASK] == 0).all()
    assert all(p.grad.isfinite().all() for p in pool.parameters())


def test_last_finds_the_end_under_either_padding():
    x = values()[:1]
    for mask, at in [([1, 1, 0, 0], 1), ([0, 0, 1, 1], 3), ([0, 1, 1, 0], 2)]:
        assert torch.equal(Last()(Embedding(x, torch.tensor([mask]).bool())).vectors[0], x[0, at])


def test_weights_sum_to_one():
    ones = Embedding(torch.ones(4, 4, 3, dtype=torch.float64), MASK)
    assert torch.allclose(WeightedMean()(ones).values[:3], torch.ones(3, 1, 3).double())
    attention = pooling("attention")
    weights = attention.weights(Embedding(values(), MASK))
    assert torch.allclose(weights.sum(1)[:3], torch.ones(3).double()) and (weights[~MASK] == 0).all()


def test_a_zero_query_is_the_mean_and_training_moves_it():
    pool, x = Attention(3, seed=0).double(), Embedding(values(), MASK)
    with torch.no_grad():
        pool.query.zero_()
    assert torch.allclose(pool(x).values, Mean()(x).values)
    pool(x).values.sum().backward()
    assert pool.query.grad.abs().sum() > 0


@ALL
def test_low_precision_and_empty_batches(name):
    half = POOLINGS[name](3).bfloat16()(Embedding(values().bfloat16(), MASK))
    assert half.values.dtype == torch.bfloat16 and half.values.isfinite().all()
    for shape in [(0, 4), (0, 0), (2, 0)]:
        out = pooling(name)(Embedding(torch.zeros(*shape, 3).double(), torch.zeros(*shape, dtype=torch.bool)))
        assert out.values.shape == (shape[0], 1, 3) and not out.mask.any()
