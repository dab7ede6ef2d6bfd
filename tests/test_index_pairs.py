"""Scores of single pairs of a query and a row: right, the same bits beside any others, in bounded memory."""

from __future__ import annotations

import pytest
import torch

from coembed.embedding import Embedding, similarity
from coembed.index import maxsim
from coembed.index.rows import ListRows
from coembed.index.segment import Segment

PAIRS = 100


def ragged(count, most, dim, seed=0, dtype=torch.float32, scaled=False):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, most + 1, (count,), generator=draw)
    lengths[:3] = torch.tensor([1, 2, most])
    vectors = torch.randn(int(lengths.sum()), dim, generator=draw)
    scales = torch.rand(len(vectors), generator=draw) if scaled else None
    vectors = (vectors * 40).round().clamp(-127, 127).to(torch.int8) if scaled else vectors.to(dtype)
    rows = ListRows([str(i) for i in range(count)], [None] * count)
    return Segment(rows, vectors, lengths, scales=scales)


def queries(count, most, dim, seed=1):
    """With holes in their masks, zeros where masked, and one that is absent."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, most, generator=draw) < torch.rand(count, 1, generator=draw) + 0.1
    mask[0], mask[-1] = True, False
    values = torch.randn(count, most, dim, generator=draw) * mask[..., None]
    return Embedding(values, mask)


def drawn(q, part, seed=2):
    draw = torch.Generator().manual_seed(seed)
    return (torch.randint(len(x), (PAIRS,), generator=draw) for x in (q, part))


def rows_of(part):
    lengths = part.lengths
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    values = torch.zeros(*mask.shape, part.vectors.shape[1])
    values[mask] = part.floats(torch.arange(len(part.vectors)))
    return Embedding(values, mask)


KINDS = {"float": {}, "half": {"dtype": torch.float16}, "int8": {"scaled": True}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 3, 37, 128])
def test_pairs_are_what_similarity_says(kind, dim):
    part, q = ragged(60, 70, dim, **KINDS[kind]), queries(12, 33, dim)
    asked, rows = drawn(q, part)
    wanted = similarity(q, rows_of(part))[asked, rows]
    torch.testing.assert_close(part.pairs(q, asked, rows), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "threads"), [("float", 1), ("half", 1), ("int8", 1), ("float", 2)])
@pytest.mark.parametrize(("dim", "most", "tokens"), [(1, 5, 3), (3, 9, 1), (37, 70, 33), (128, 130, 32), (300, 140, 8)])
def test_bits_do_not_depend_on_what_else_is_scored(kind, dim, most, tokens, threads):
    part, q = ragged(60, most, dim, **KINDS[kind]), queries(12, tokens, dim)
    asked, rows = drawn(q, part)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = part.pairs(q, asked, rows)
        order = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(3))
        assert torch.equal(part.pairs(q, asked[order], rows[order]), whole[order]), "any order"
        for size in (1, 7, 64):
            parts = [part.pairs(q, asked[some], rows[some]) for some in order.split(size)]
            assert torch.equal(torch.cat(parts), whole[order]), f"{size} at a time"
        for i in range(0, PAIRS, 7):  # the query by itself, without the places that others fill
            alone = q[asked[i : i + 1]]
            there = alone.mask[0] if alone.mask.any() else slice(0, 1)
            alone = Embedding(alone.values[:, there], alone.mask[:, there])
            assert torch.equal(part.pairs(alone, torch.tensor([0]), rows[i : i + 1]), whole[i : i + 1])
    finally:
        torch.set_num_threads(before)


def test_few_vectors_are_read_at_once(monkeypatch):
    part, q = ragged(500, 200, 16), queries(3, 8, 16)
    read = []
    monkeypatch.setattr(maxsim, "_FLOATS", 1 << 10)
    floats = Segment.floats
    monkeypatch.setattr(Segment, "floats", lambda self, at: read.append(len(at)) or floats(self, at))
    asked = torch.zeros(500, dtype=torch.long)
    part.pairs(q, asked, torch.arange(500))
    assert max(read[1:]) <= 256, "of one row of 200 vectors at most what it is filled up to"
    assert sum(read) < 2 * len(part.vectors)
