"""Rows in a store: what comes back is what went in, searches equal exact's, changes are whole or not at all."""

from __future__ import annotations

import json
import random

import pytest
import torch

from coembed import Embedding
from coembed.index import Exact, IndexFileError, open_index

STRANGE = [
    None,
    {"text": "é 日本 \U0001f600 \u2028 \t \"quoted\" 'it''s' \\", "nested": {"a": [1, None, {"b": []}], "": {}}},
    {"float": 0.1, "tiny": 5e-324, "int": 2**70, "one": 1, "one.0": 1.0, "minus": -0.0, "yes": True, "no": None},
    ["a", ["b"], {}],
    "just text\x00with a NUL",
    {"half": "\ud800"},
    12,
    {"$ne": 1, "k": "x'; DROP TABLE coembed; --", "f.x": 1, "vector": [1], "id": 3, "n": "n", "more": False},
]
IDS = ["plain", "it's", 'say "x"', "ü 日本 \U0001f600", "a;b--", "", "%s {0} \\", "x" * 300]


def drawn(rows, dim=16, seed=0):
    return Embedding.from_vectors(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))).normalize()


def filled(store, rows=120, dim=16):
    x, ids = drawn(rows, dim), [f"r{i}" for i in range(rows)]
    store.add(ids, x, [{"n": i, "even": i % 2 == 0} for i in range(rows)])
    return x, ids


def test_ids_payloads_and_vectors_come_back_as_they_went_in(make):
    store, x = make(), drawn(len(IDS))
    store.add(IDS, x, STRANGE)
    assert store.ids == IDS
    hits = {hit.id: hit.payload for hit in store.search(x[:1], k=len(IDS))[0]}
    for name, payload in zip(IDS, STRANGE, strict=True):
        assert json.dumps(hits[name]) == json.dumps(payload), name  # 1 is not 1.0, True is not 1
    assert torch.equal(store.vectors(IDS[::-1]).vectors, x.vectors.flip(0))
    with pytest.raises(KeyError, match="nowhere"):
        store.vectors(["nowhere"])
    store.delete(IDS)
    assert len(store) == 0 and store.search(x[:1]) == [[]]


@pytest.mark.parametrize("metric", ["dot", "cosine"])
def test_searches_equal_exact_s(make, metric):
    store = make()
    store.metric = metric
    x = Embedding.from_vectors(drawn(300).vectors * torch.linspace(0.5, 3, 300)[:, None])
    ids = [f"r{i}" for i in range(300)]
    payloads = [{"n": i} for i in range(300)]
    store.add(ids, x, payloads)
    exact = Exact()
    exact.add(ids, x.normalize() if metric == "cosine" else x, payloads)
    q = drawn(20, seed=1)
    for where in (None, "n < 50 or n > 290", ids[10:30]):
        for ours, theirs in zip(store.search(q, 10, where), exact.search(q, 10, where), strict=True):
            assert [(hit.id, hit.payload) for hit in ours] == [(hit.id, hit.payload) for hit in theirs]
            assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=2e-6)


def test_queries_of_several_vectors_are_maxsim_and_absent_ones_find_nothing(make):
    store = make()
    x, ids = filled(store)
    exact = Exact()
    exact.add(ids, x)
    generator = torch.Generator().manual_seed(3)
    mask = torch.tensor([[True, True, False], [False, False, False], [True, True, True]])
    values = torch.randn(3, 3, 16, generator=generator)
    values[0, 2] = float("nan")
    q = Embedding(values, mask)
    ours, theirs = store.search(q, 5), exact.search(q, 5)
    assert ours[1] == [] and [[hit.id for hit in row] for row in ours] == [[hit.id for hit in row] for row in theirs]
    assert [hit.score for hit in ours[2]] == pytest.approx([hit.score for hit in theirs[2]], abs=1e-5)


def test_equal_rows_come_in_the_order_they_were_added(make):
    store, one = make(), drawn(1)
    same = one[[0] * 30]
    store.add([f"a{i}" for i in range(15)], same[:15])
    store.add([f"b{i}" for i in range(15)], same[15:])
    assert [hit.id for hit in store.search(one, k=30)[0]] == store.ids == [f"{x}{i}" for x in "ab" for i in range(15)]


def test_an_update_replaces_and_comes_last(make):
    store = make()
    _, ids = filled(store)
    store.update(["r3", "new"], drawn(2, seed=9), [{"n": -3, "fresh": "yes"}, None])
    assert store.ids == [*(name for name in ids if name != "r3"), "r3", "new"]
    hit = store.search(drawn(2, seed=9)[:1], k=1)[0][0]
    assert (hit.id, hit.payload) == ("r3", {"n": -3, "fresh": "yes"})
    assert store.select("fresh == 'yes'") == ["r3"] and "r3" not in store.select("n == 3")


def test_what_is_refused_changes_nothing(make):
    store = make()
    x, ids = filled(store)
    wide = drawn(1, dim=17)
    several = Embedding(torch.ones(1, 2, 16), torch.ones(1, 2, dtype=torch.bool))
    for call, error, said in (
        (lambda: store.add(["new", "r5"], x[:2]), ValueError, "'r5' is there already"),
        (lambda: store.add(["new", "new"], x[:2]), ValueError, "'new' is there already"),
        (lambda: store.add(["new"], wide), ValueError, "width 16, got width 17"),
        (lambda: store.update(["r5"], wide), ValueError, "width 16, got width 17"),
        (lambda: store.add(["new"], several), ValueError, r"one vector a row: add x\.pool"),
        (lambda: store.add(["new"], x[:1], [{1, 2}]), ValueError, "can't be kept as JSON"),
        (lambda: store.add([3], x[:1]), TypeError, "ids are strings"),
        (lambda: store.delete(["r1", "gone"]), KeyError, "'gone'"),
        (lambda: store.search(wide), ValueError, "width 17"),
        (lambda: store.search(x[:1], k=0), ValueError, "k 0"),
        (lambda: type(store)(metric="euclid"), ValueError, "neither 'dot' nor 'cosine'"),
    ):
        with pytest.raises(error, match=said):
            call()
        assert len(store) == 120
    assert store.ids == ids
    store.add([], x[:0])
    store.delete([])
    assert len(store) == 120


def test_more_rows_than_a_batch(make):
    store = make()
    x = drawn(2500, dim=4)
    ids = [f"id{i}" for i in range(2500)]
    store.add(ids, x, [{"n": i} for i in range(2500)])
    assert len(store) == 2500 and store.ids == ids
    with pytest.raises(ValueError, match="'id2400' is there already"):
        store.add([f"new{i}" for i in range(1500)] + ["id2400"], drawn(1501, dim=4))
    store.delete(ids[:2400])
    assert store.ids == ids[2400:]
    assert [hit.id for hit in store.search(x[2450:2451], k=1, where=ids)[0]] == ["id2450"]


def test_saved_it_names_where_the_rows_are_and_nothing_secret(make, tmp_path):
    store = make()
    filled(store)
    store.meta["tower"] = "text"
    store.save(tmp_path / "index")
    text = (tmp_path / "index" / "index.json").read_text("utf-8")
    assert json.loads(text)["kind"] == f"stores/{make.kind}" and "password" not in text and "key" not in text.lower()
    again = open_index(tmp_path / "index")
    assert again.meta == {"tower": "text"} and again.dim == 16
    again.add(["later"], drawn(1, seed=5))
    assert len(store) == 121, "both look at the same rows"
    with pytest.raises(IndexFileError, match="its kind is"):
        Exact.load(tmp_path / "index")
    facts = json.loads(text)
    facts["store"] = {"nonsense": 1}
    (tmp_path / "index" / "index.json").write_text(json.dumps(facts), "utf-8")
    with pytest.raises(IndexFileError, match="damaged"):
        open_index(tmp_path / "index")


def test_random_changes_leave_what_a_dictionary_has(make):
    rng, store, truth = random.Random(1), make(), {}
    generator = torch.Generator().manual_seed(1)
    for _ in range(25):
        names = rng.sample([f"k{i}" for i in range(30)], rng.randrange(1, 8))
        x = Embedding.from_vectors(torch.randn(len(names), 8, generator=generator))
        payloads = [{rng.choice("abc"): rng.choice([1, "x", None, [1]])} for _ in names]
        change = rng.choice(["update", "update", "delete"])
        if change == "update":
            store.update(names, x, payloads)
            truth = {k: v for k, v in truth.items() if k not in names} | dict(zip(names, payloads, strict=True))
        elif there := [name for name in names if name in truth]:
            store.delete(there)
            truth = {k: v for k, v in truth.items() if k not in there}
    assert store.ids == list(truth) and len(store) == len(truth)
    hits = store.search(Embedding.from_vectors(torch.ones(1, 8)), k=100)[0] if truth else []
    assert {hit.id: hit.payload for hit in hits} == truth
