"""Index.report, nbytes, vectors and batches: what an index says of itself, and how its rows are read back."""

from __future__ import annotations

import json

import pytest
import torch

from coembed import Embedding
from coembed.index import Exact, Index, IndexReport, open_index


def vectors(n: int, seed: int = 0, tokens: int = 1) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(tokens) < torch.randint(1, tokens + 1, (n, 1), generator=generator)
    return Embedding(torch.randn(n, tokens, 16, generator=generator), mask).normalize()


def filled(x: Embedding, kind: type[Exact] = Exact) -> Exact:
    index = kind()
    index.add([f"id{i}" for i in range(len(x))], x, [{"n": i} for i in range(len(x))])
    return index


@pytest.mark.parametrize("tokens", [1, 5])
def test_exact_search_reports_recall_1(tokens):
    index = filled(vectors(300, tokens=tokens))
    report = index.report(sample=20, k=7)
    assert (report.kind, report.rows, report.dim, report.k, report.queries) == ("exact", 300, 16, 7, 20)
    assert report.recall == 1 and report.single_ms > 0 and report.batch_ms > 0
    assert index.report(vectors(9, seed=1, tokens=tokens)).recall == 1
    assert json.loads(json.dumps(report.to_json())) == report.to_json()
    assert "exact: 300 rows of width 16" in str(report) and "recall@7 against brute force, 20 queries: 1.0000" in str(
        report
    )


def test_equal_rows_are_one_place():
    """Which of forty equal rows is found first is no miss."""

    class Backwards(Exact):
        def search(self, q, k=10, where=None):
            return [list(reversed(row))[:k] for row in super().search(q, len(self), where)]

    same = Embedding.from_vectors(torch.ones(40, 16)).normalize()
    assert filled(same, Backwards).report(k=5).recall == 1
    assert filled(vectors(200), Backwards).report(k=5).recall < 0.1


def test_few_rows_and_none():
    assert filled(vectors(3)).report(k=10).recall == 1
    with pytest.raises(ValueError, match="report: 0 rows"):
        Exact().report()
    with pytest.raises(ValueError, match="sample 0"):
        filled(vectors(3)).report(sample=0)


def test_another_index_can_be_the_measure():
    class Mute(Exact):
        def vectors(self, ids):
            return Index.vectors(self, ids)

    index, exact = filled(vectors(100), Mute), filled(vectors(100))
    report = index.report(sample=10)
    assert isinstance(report, IndexReport) and report.recall is None and "not known" in str(report)
    assert index.report(sample=10, exact=exact).recall == 1
    with pytest.raises(KeyError, match="id99"):
        index.report(sample=10, exact=filled(vectors(99)))


@pytest.mark.parametrize("tokens", [1, 4])
def test_bytes_are_those_of_the_folder(tokens, tmp_path):
    index = filled(vectors(3000, tokens=tokens))
    before = index.nbytes()
    index.save(tmp_path)
    real = sum(path.stat().st_size for path in tmp_path.iterdir())
    for size in (before, index.nbytes(), open_index(tmp_path).nbytes()):
        assert abs(size.disk - real) < 0.02 * real and size.memory == size.disk, "all of it is searched"
    index.delete([f"id{i}" for i in range(2000)])
    index.compact()
    assert index.nbytes().disk < 0.4 * real


@pytest.mark.parametrize("tokens", [1, 4])
def test_rows_are_read_back(tokens, tmp_path):
    x = vectors(50, tokens=tokens)
    index = filled(x)
    index.save(tmp_path)
    index = Exact.load(tmp_path)
    index.delete(["id3"])
    index.update(["id7", "new"], x[:2], [{"n": 7}, None])
    got = index.vectors(["new", "id49", "id7"])
    for row, wanted in enumerate((x[1:2], x[49:50], x[:1])):
        assert torch.equal(got.values[row][got.mask[row]], wanted.values[wanted.mask])
    assert index.vectors([]).values.shape[0] == 0
    for lost in ("id3", "nobody"):
        with pytest.raises(KeyError, match=lost):
            index.vectors(["id1", lost])
    other = Exact()
    for ids, rows, payloads in index.batches(size=7):
        assert len(ids) <= 7
        other.add(ids, rows, payloads)
    assert other.ids == index.ids
    assert other.search(x[:5], k=50) == index.search(x[:5], k=50)
