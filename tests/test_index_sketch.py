"""Sketches: whatever the vectors are like, no bound is ever broken and nothing is missed."""

from __future__ import annotations

import pytest
import torch

from coembed import Embedding
from coembed.index import Exact
from coembed.index.sketch import Sketch, available, quantise, sketch

pytestmark = pytest.mark.skipif(not available(), reason="this machine does not multiply int8 matrices exactly")


def like(kind: str, n: int = 1500, dim: int = 192, seed: int = 0) -> torch.Tensor:
    """Vectors that make it hard: few directions, outliers, a large mean, copies, all lengths, nearly all the same."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=g)
    if kind == "plain":
        return torch.nn.functional.normalize(x)
    if kind == "low rank":
        basis = torch.randn(20, dim, generator=torch.Generator().manual_seed(9))
        return torch.nn.functional.normalize(x[:, :20] @ basis + 0.3 * x)
    if kind == "outliers":
        x[:, 3] *= 300
        x[n // 2] *= 1000
    if kind == "mean":
        x = x * 0.05 + 10
    if kind == "copies":
        x = x[torch.arange(n) % 40]
    if kind == "lengths":
        x *= torch.logspace(-20, 15, n)[torch.randperm(n, generator=g), None]
    if kind == "nearly the same":
        x = 1 + x * 1e-4
    if kind == "zeros":
        x[::2] = 0
    return x


KINDS = ["plain", "low rank", "outliers", "mean", "copies", "lengths", "nearly the same", "zeros"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_score_is_further_off_than_its_bound(kind):
    x, q = like(kind), like(kind, 30, seed=1)
    made = sketch(x)
    again = Sketch.from_tensors(made.to_tensors())
    codes, step, rest = quantise(q)
    true = q.double() @ x.double().T
    for one in (made, again):
        assert torch.equal(one.codes.values, made.codes.values) and one.rest is not None
        raw = torch._int_mm(one.codes.values, codes.T).T.double()
        rough = raw * step.double()[:, None] * one.codes.step + (q.double() @ one.mean.double())[:, None]
        norms = q.norm(dim=1).double()[:, None]
        bound = rest.double()[:, None] * one.codes.longest + norms * (one.rest.double() + one.noise())
        assert ((rough - true).abs() <= bound * (1 + 1e-6)).all()
    if kind == "low rank":
        assert made.head is not None and made.head.directions.shape[1] == 64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("queries", [1, 12])
def test_nothing_is_missed(kind, queries, monkeypatch, tmp_path):
    monkeypatch.setattr("coembed.index.segment.SKETCHED", 100)
    x, q = Embedding.from_vectors(like(kind)), Embedding.from_vectors(like(kind, queries, seed=1))
    index, plain = Exact(), Exact()
    for one in (index, plain):
        one.add([str(i) for i in range(len(x))], x, [{"n": i} for i in range(len(x))])
    index.save(tmp_path)
    coded = [index, Exact.load(tmp_path)]
    few, most = torch.arange(1500) % 97 == 0, torch.arange(1500) % 97 > 0
    for where in (None, few, most, "n > 1000", torch.arange(1500) == 3):
        for k in (1, 10, 300):
            found = [one.search(q, k=k, where=where) for one in coded]
            monkeypatch.setattr("coembed.index.segment.SKETCHED", 10**9)
            wanted = plain.search(q, k=k, where=where)
            monkeypatch.setattr("coembed.index.segment.SKETCHED", 100)
            assert all(rows == wanted for rows in found), f"{kind}, k {k}"
            assert all(len(row) == len(wanted[0]) for row in wanted)
    assert index.segments()[0].sketch() is not None and plain.segments()[0]._sketch is None


@pytest.mark.parametrize("longest", [1, 4])
def test_multivectors_by_codes(longest, monkeypatch):
    monkeypatch.setattr("coembed.index.segment.SKETCHED", 100)
    g = torch.Generator().manual_seed(0)
    values = torch.nn.functional.normalize(torch.randn(700, 4, 64, generator=g), dim=2)
    mask = torch.arange(4) < torch.randint(1, longest + 1, (700, 1), generator=g)
    x = Embedding(values, mask)
    q = Embedding(values[:20] + 0.3 * torch.randn(20, 4, 64, generator=g), torch.rand(20, 4, generator=g) < 0.8)
    index, plain = Exact(), Exact()
    for one in (index, plain):
        one.add([str(i) for i in range(700)], x)
    some = torch.arange(700) % 5 == 0
    found = [index.search(q, k=15), index.search(q, k=15, where=some)]
    assert index.segments()[0]._sketch is not None
    monkeypatch.setattr("coembed.index.segment.SKETCHED", 10**9)
    assert found == [plain.search(q, k=15), plain.search(q, k=15, where=some)]


def test_codes_do_the_work(monkeypatch):
    """On rows that lie well, hardly any vector is read: the bounds are tight enough to be worth their bytes."""
    monkeypatch.setattr("coembed.index.segment.SKETCHED", 100)
    x = like("low rank", 20_000)
    index = Exact()
    index.add([str(i) for i in range(len(x))], Embedding.from_vectors(x))
    part = index.segments()[0]
    read = []
    pairs = type(part).pairs
    monkeypatch.setattr(type(part), "pairs", lambda self, q, a, rows: read.append(len(rows)) or pairs(self, q, a, rows))
    q = Embedding.from_vectors(like("low rank", 20, seed=1))
    index.search(q, k=10)
    assert sum(read) < 20 * 200
    read.clear()
    index.search(q[:1], k=10)
    assert sum(read) < 200


def test_without_exact_int8_products_it_searches_in_float(monkeypatch):
    monkeypatch.setattr("coembed.index.segment.SKETCHED", 100)
    monkeypatch.setattr("coembed.index.segment.available", lambda: False)
    monkeypatch.setattr(torch, "_int_mm", None)
    x = Embedding.from_vectors(like("plain"))
    index = Exact()
    index.add([str(i) for i in range(len(x))], x)
    assert [row[0].id for row in index.search(x[:20], k=1)] == [str(i) for i in range(20)]
