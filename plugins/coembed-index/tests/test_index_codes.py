"""Codes by themselves: bits counted as they are, integers multiplied exactly, the best kept over blocks."""

from __future__ import annotations

import pytest
import torch

import coembed
from coembed import Embedding
from coembed_index.binary import pack
from coembed_index.int8 import integer_products
from coembed_index.multivector import MultiVector
from coembed_index.scan import Best


@pytest.mark.parametrize("dim", [1, 63, 64, 65, 200])
def test_bits_that_differ_are_counted(dim):
    generator = torch.Generator().manual_seed(dim)
    x, q = (torch.rand(n, dim, generator=generator) < 0.5 for n in (50, 7))
    index = coembed.load("index/binary", bits=dim)
    words = pack(x)
    codes = {f"w{i}": words[:, i].contiguous() for i in range(words.shape[1])}
    wanted = -(q[:, None] != x[None]).sum(2).float()
    assert torch.equal(index.scores(pack(q), codes), wanted)


def test_integer_products_are_exact():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-127, 128, (n, 333), generator=generator, dtype=torch.int8) for n in (100, 9))
    assert torch.equal(integer_products(a, b), (a.double() @ b.double().T).float())


@pytest.mark.parametrize("scales", ["row", "dim"])
def test_eight_bits_are_near(scales, rows, queries, helpers):
    index = helpers.fill(coembed.load("index/int8", scales=scales, keep="none"), rows)
    scores = index.search(queries[:1], 5)[0]
    true = [float(rows.vectors[int(hit.id[2:])] @ queries.vectors[0]) for hit in scores]
    assert max(abs(hit.score - t) for hit, t in zip(scores, true, strict=True)) < 0.02


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("n", [1, 7, 200])
def test_the_best_over_blocks_are_the_best(transposed, n):
    scores = torch.randn(5, 999, generator=torch.Generator().manual_seed(0))
    scores[:, ::3] = -torch.inf
    best = Best(5, n)
    for at in range(0, 999, 100):
        block = scores[:, at : at + 100]
        best.take(block.T.contiguous().T if transposed else block.contiguous(), torch.arange(at, min(999, at + 100)))
    rows, values = best.table()
    assert torch.equal(values, scores.topk(n, 1).values)
    assert torch.equal(scores.gather(1, rows), values)


def test_a_table_has_gaps_where_there_are_few():
    best = Best(2, 3)
    best.take(torch.tensor([[1.0, -torch.inf], [-torch.inf, -torch.inf]]), torch.tensor([4, 5]))
    rows, values = best.table()
    assert rows.tolist() == [[4, -1, -1], [-1, -1, -1]]
    assert values[0].tolist() == [1.0, -torch.inf, -torch.inf]


def many(count, longest, seed, dim=32):
    """Rows of several vectors around one topic each, and of queries that ask for it."""
    generator = torch.Generator().manual_seed(seed)
    topic = torch.randn(count, 1, dim, generator=torch.Generator().manual_seed(7))
    values = topic + 0.9 * torch.randn(count, longest, dim, generator=generator)
    mask = torch.arange(longest) < torch.randint(1, longest + 1, (count, 1), generator=generator)
    return Embedding(values, mask).normalize()


def test_two_stages_find_what_maxsim_finds(helpers, tmp_path):
    x, q = many(800, 12, 0), many(800, 5, 1)[:30]
    index, exact = MultiVector(), coembed.load("exact")
    for one in (index, exact):
        one.add([f"id{i}" for i in range(800)], x, [{"n": i} for i in range(800)])
    assert helpers.share(index, exact, q) >= index.recall
    assert helpers.share(index, exact, q, where="n < 300") >= index.recall
    index.save(tmp_path)
    again = MultiVector.load(tmp_path)
    assert again.search(q) == index.search(q)
    again.read = 0
    found = again.search(q[:1], 5)[0]
    assert 0 < again.read <= 5 * again.rescore * 12, "vectors are read of candidates only"
    true = {hit.id: hit.score for hit in exact.search(q[:1], 800)[0]}
    assert all(abs(hit.score - true[hit.id]) < 1e-4 for hit in found)


def test_the_encoding_estimates_maxsim_better_than_the_mean(helpers):
    x, q = many(800, 12, 0), many(800, 5, 1)[:30]
    exact = coembed.load("exact")
    exact.add([str(i) for i in range(800)], x)
    shares = []
    for arguments in ({"planes": 0, "repeats": 1, "width": None}, {"planes": 4, "repeats": 20, "width": None}):
        index = MultiVector(**arguments, rescore=2)
        index.add([str(i) for i in range(800)], x)
        shares.append(helpers.share(index, exact, q))
    assert shares[1] > shares[0]
