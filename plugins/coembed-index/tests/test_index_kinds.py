"""Every kind of index on rows that lie as embeddings do: recall, filters, growth, bytes, and what is refused."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import coembed
from coembed import Embedding
from coembed.index import Exact, IndexFileError, open_index
from coembed.plugins import PluginError

KINDS = ("index/int8", "index/binary", "index/hnsw", "index/ivfpq")


@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_what_it_states_and_scores_it_exactly(kind, rows, queries, exact, helpers):
    index = helpers.fill(coembed.load(kind), rows)
    assert helpers.share(index, exact, queries) >= index.recall
    true = {hit.id: hit.score for hit in exact.search(queries[:1], len(rows))[0]}
    found = index.search(queries[:1], 10)[0]
    assert all(hit.score == true[hit.id] for hit in found), "rescored from float32, bit for bit"
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["n < 1", "n < 50", "n < 500", "n < 990"])
def test_a_filter_loses_no_recall(kind, where, rows, queries, exact, helpers):
    index = helpers.fill(coembed.load(kind), rows)
    assert helpers.share(index, exact, queries, where=where) >= index.recall
    assert all(len(row) == min(10, len(exact.select(where))) for row in index.search(queries, 10, where))


@pytest.mark.parametrize("kind", KINDS)
def test_it_grows_shrinks_and_is_rebuilt(kind, rows, queries, helpers, tmp_path):
    index, exact = coembed.load(kind), Exact()
    for start in range(0, 2000, 500):
        for one in (index, exact):
            helpers.fill(one, rows[start : start + 500], start)
            one.delete([f"id{start + i}" for i in range(300)])
        assert helpers.share(index, exact, queries) >= index.recall
        index.save(tmp_path)
        index = open_index(tmp_path)
    assert index.ids == exact.ids
    index.rebuild()
    assert helpers.share(index, exact, queries) >= index.recall
    held = getattr(index, "held", lambda: len(index))()
    assert held == len(index) == 800, "nothing is left of what was deleted"
    index.save(tmp_path)
    assert open_index(tmp_path).search(queries) == index.search(queries)
    assert len(list(tmp_path.iterdir())) == len(json.loads((tmp_path / "index.json").read_text())["files"]) + 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", ["float32", "float16", "int8", "none"])
def test_bytes_are_those_of_the_folder(kind, keep, rows, queries, exact, helpers, tmp_path):
    index = helpers.fill(coembed.load(kind, keep=keep), rows)
    before = index.nbytes()
    index.save(tmp_path)
    again = open_index(tmp_path)
    real = sum(path.stat().st_size for path in tmp_path.iterdir())
    for size in (before, index.nbytes(), again.nbytes()):
        assert abs(size.disk - real) < 0.02 * real + 4096
        vectors = {"float32": 256, "float16": 128, "int8": 64, "none": 0}[keep] * len(rows)
        assert abs(size.disk - size.memory - vectors) < 0.1 * real, "memory is all but the vectors that are kept"
    assert again.search(queries) == index.search(queries)
    assert helpers.share(again, exact, queries) >= index.recall - 0.02
    assert index.recall == again.recall and (index.recall < type(index).recall) == (
        keep == "none" and kind != "index/hnsw"
    )


def test_codes_kept_alone_say_so(rows, queries, exact, helpers):
    index = helpers.fill(coembed.load("index/int8", keep="none"), rows)
    with pytest.raises(ValueError, match="keeps codes, not the vectors"):
        index.vectors(index.ids) if index.search(queries) else None
    report = index.report(queries)
    assert report.recall is None and "give exact=" in str(report)
    assert index.report(queries, exact=exact).recall > 0.9
    assert index.report(exact=exact, sample=20).queries == 20
    with pytest.raises(ValueError, match="keeps no vectors to be rebuilt from"):
        index.rebuild()


def test_a_report_tells_recall_from_brute_force(rows, queries, helpers):
    """Of an index that loses every other hit it says so, and a row does not count as its own neighbour."""

    class Half(Exact):
        def search(self, q, k=10, where=None):
            return [row[1::2] for row in super().search(q, 2 * k, where)]

    assert helpers.fill(Exact(), rows).report(sample=30).recall == 1
    half = helpers.fill(Half(), rows)
    assert 0.4 < half.report(queries).recall < 0.6
    assert 0.4 < half.report(sample=30).recall < 0.6


@pytest.mark.parametrize("kind", ["index/binary", "index/ivfpq"])
def test_what_was_learned_from_few_is_learned_anew(kind, rows, queries, exact, helpers):
    index = helpers.fill(coembed.load(kind), rows[:20])
    index.search(queries)
    assert index.trained_on == 20
    helpers.fill(index, rows[20:], 20)
    index.search(queries)
    assert index.trained_on == 2000
    assert helpers.share(index, exact, queries) >= index.recall


@pytest.mark.parametrize("kind", KINDS)
def test_a_tampered_folder_is_refused(kind, rows, helpers, tmp_path):
    helpers.fill(coembed.load(kind), rows[:200]).save(tmp_path)
    path = tmp_path / "index.json"
    facts = json.loads(path.read_text())
    for change in ({"settings": {"keep": "everything"}}, {"settings": {"strange": 1}}, {"others": {}}):
        path.write_text(json.dumps(facts | change))
        with pytest.raises(IndexFileError, match=str(tmp_path)):
            open_index(tmp_path)


@pytest.mark.parametrize("kind", ["index/hnsw", "index/ivfpq"])
@pytest.mark.parametrize("change", [lambda b: b[:-100], lambda b: b[:200] + bytes([b[200] ^ 255]) + b[201:]])
def test_a_damaged_structure_never_reaches_the_library(kind, change, rows, helpers, tmp_path):
    helpers.fill(coembed.load(kind), rows[:500]).save(tmp_path)
    (path,) = tmp_path.glob("*.structure")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(IndexFileError, match=r"\.structure: damaged"):
        open_index(tmp_path)


def test_arguments_that_can_not_be_are_named():
    for kind, arguments, said in (
        ("index/int8", {"scales": "both"}, "scales 'both'"),
        ("index/int8", {"keep": "float8"}, "keep 'float8'"),
        ("index/binary", {"rescore": -1}, "rescore -1"),
        ("index/binary", {"bits": 0}, "bits 0"),
        ("index/hnsw", {"dtype": "f8"}, "dtype 'f8'"),
        ("index/hnsw", {"search_width": 1}, "search_width 1"),
        ("index/ivfpq", {"lists": 0}, "lists 0"),
        ("index/multivector", {"keep": "none"}, "keep vectors"),
        ("index/auto", {"memory": 0}, "memory 0"),
    ):
        with pytest.raises(ValueError, match=said):
            coembed.load(kind, **arguments)


def test_without_faiss_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises((ImportError, PluginError), match=r"pip install 'coembed-index\[faiss\]'"):
        coembed.load("index/ivfpq")


def test_rows_of_several_vectors_are_refused_with_the_way_out():
    x = Embedding(torch.ones(1, 2, 4), torch.ones(1, 2, dtype=torch.bool))
    index = coembed.load("index/int8")
    index.add(["x"], x[:1].pool())
    for change in (index.add, index.update):
        with pytest.raises(ValueError, match=r"pool\(\) them, or use index/multivector"):
            change(["x"] if change == index.update else ["y"], x)
    assert index.ids == ["x"], "an update that is refused takes nothing away"


def test_product_codes_need_a_width_that_divides(rows, helpers):
    index = helpers.fill(coembed.load("index/ivfpq", parts=7), rows)
    with pytest.raises(ValueError, match="parts 7: the width 64 is no multiple"):
        index.search(rows[:1])
