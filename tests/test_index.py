"""Exact search: equal to brute force whatever the batch, the block, the filter; on disk whole or not at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import coembed
from coembed import Embedding, Hit, similarity
from coembed.index import Exact, Index, open_index


def vectors(n: int, dim: int = 16, seed: int = 0) -> Embedding:
    return Embedding.from_vectors(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))).normalize()


def multivectors(n: int, longest: int = 5, dim: int = 16, seed: int = 0) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, longest, dim, generator=generator)
    mask = torch.rand(n, longest, generator=generator) < 0.6  # gaps anywhere, not only at the end
    mask[:, longest // 2] = True
    return Embedding(values.masked_fill(~mask.unsqueeze(-1), torch.nan), mask).normalize()


def names(n: int) -> list[str]:
    return [f"id{i}" for i in range(n)]


def filled(x: Embedding) -> Exact:
    index = Exact()
    index.add(names(len(x)), x, [{"n": i} for i in range(len(x))])
    return index


def brute_force(q: Embedding, x: Embedding, k: int, mask: torch.Tensor | None = None) -> list[list[tuple[str, float]]]:
    scores = similarity(q, x)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :k].tolist()
    rows = [[(f"id{i}", scores[row, i].item()) for i in best] for row, best in enumerate(order)]
    return [[pair for pair in row if pair[1] > -torch.inf] for row in rows]


def same(hits: list[list[Hit]], wanted: list[list[tuple[str, float]]]) -> None:
    assert [[hit.id for hit in row] for row in hits] == [[name for name, _ in row] for row in wanted]
    for row, expected in zip(hits, wanted, strict=True):
        assert [hit.score for hit in row] == pytest.approx([score for _, score in expected], abs=1e-5)
        assert all(hit.payload == {"n": int(hit.id[2:])} for hit in row)


@pytest.mark.parametrize("queries", [vectors, multivectors])
@pytest.mark.parametrize("documents", [vectors, multivectors])
@pytest.mark.parametrize("block", [1, 7, 1000, 1 << 22])
def test_equal_to_brute_force(queries, documents, block, monkeypatch):
    monkeypatch.setattr("coembed.index.scan._SCORES", block * 9)
    q, x = queries(9, seed=1), documents(120)
    index = filled(x)
    for k in (1, 10, 119, 120, 1000):
        same(index.search(q, k=k), brute_force(q, x, k))
    mask = torch.arange(120) % 7 == 3
    same(index.search(q, k=10, where=mask), brute_force(q, x, 10, mask))


@pytest.mark.parametrize("documents", [vectors, multivectors])
def test_scores_have_the_same_bits_in_any_batch_and_block(documents, monkeypatch):
    q, x = multivectors(33, seed=1), documents(500)
    index = filled(x)
    whole = index.search(q, k=20)
    assert [index.search(q[i : i + 1], k=20)[0] for i in range(33)] == whole
    monkeypatch.setattr("coembed.index.scan._SCORES", 33 * 5 * 17)
    monkeypatch.setattr("coembed.index.exact._QUERIES", 5)
    assert index.search(q, k=20) == whole
    parts = Exact()
    for start in range(0, 500, 123):
        parts.add(
            names(500)[start : start + 123], x[start : start + 123], [{"n": i} for i in range(500)][start : start + 123]
        )
    assert parts.search(q, k=20) == whole


@pytest.mark.parametrize("documents", [vectors, multivectors])
@pytest.mark.parametrize("copies", [3, 40, 700])
def test_equal_scores_come_in_the_order_they_were_added(documents, copies, monkeypatch):
    monkeypatch.setattr("coembed.index.scan._SCORES", 1000)
    base, q = documents(5), vectors(4, seed=1)
    at = torch.arange(5).repeat(copies)  # copies of five things, far from each other
    index = filled(base[at])
    scores = torch.tensor([[hit.score for hit in row] for row in index.search(q, k=5 * copies)])
    assert all(len(row.unique()) == 5 for row in scores), "copies have the same score to the bit"
    for row, found in enumerate(index.search(q, k=copies // 2 + copies)):
        best = similarity(q[row : row + 1], base)[0].argsort(descending=True).tolist()
        wanted = [5 * i + best[0] for i in range(copies)] + [5 * i + best[1] for i in range(copies // 2)]
        assert [int(hit.id[2:]) for hit in found] == wanted


@pytest.mark.parametrize("documents", [vectors, multivectors])
def test_ties_far_apart_are_all_found(documents, monkeypatch):
    monkeypatch.setattr("coembed.index.scan._SCORES", 10)
    monkeypatch.setattr("coembed.index.segment._PAIRS", 3)
    x, at = documents(60), torch.arange(60)
    at[20:60:2] = 7  # twenty copies of row 7, with other rows and whole blocks between them
    index = filled(x[at])
    found = index.search(x[7:8].pool().normalize(), k=15)[0]
    assert [int(hit.id[2:]) for hit in found] == [7, *range(20, 48, 2)]


def test_constant_vectors_give_the_first_rows():
    index = filled(Embedding.from_vectors(torch.ones(3000, 8)).normalize())
    assert [hit.id for hit in index.search(Embedding.from_vectors(torch.ones(1, 8)), k=5)[0]] == names(5)


def test_filters_are_masks_predicates_or_ids():
    q, x = vectors(6, seed=1), vectors(200)
    index = filled(x)
    mask = torch.arange(200) % 3 == 0
    ids = [name for name, keep in zip(names(200), mask.tolist(), strict=True) if keep]
    wanted = brute_force(q, x, 10, mask)
    for where in (mask, mask.numpy(), lambda payload: payload["n"] % 3 == 0, ids, set(ids), [*ids, "unknown"]):
        same(index.search(q, k=10, where=where), wanted)
    same(index.search(q, k=100, where=mask), brute_force(q, x, 100, mask))
    assert len(index.search(q, k=100, where=mask)[0]) == 67
    assert index.search(q, where=[]) == index.search(q, where=torch.zeros(200, dtype=torch.bool)) == [[]] * 6


@pytest.mark.parametrize("where", [3, [True, False], [1, 2], object()])
def test_other_filters_are_refused(where):
    with pytest.raises(TypeError, match="where takes a filter, a bool mask, a function of the payload, or ids, got"):
        filled(vectors(2)).search(vectors(1), where=where)


def test_masks_must_fit():
    for mask in (torch.ones(3, dtype=torch.bool), torch.ones(2), np.ones((1, 2), dtype=bool)):
        with pytest.raises(ValueError, match="a mask must be bool, one for each of the 2 rows"):
            filled(vectors(2)).search(vectors(1), where=mask)


def test_delete_and_add_again():
    q, x = vectors(5, seed=1), multivectors(50)
    index = filled(x)
    index.delete(["id3", "id49", "id3"])
    kept = torch.tensor([i not in (3, 49) for i in range(50)])
    same(index.search(q, k=60), brute_force(q, x, 60, kept))
    assert len(index) == 48 and "id3" not in index and "id4" in index
    with pytest.raises(KeyError, match="no id 'id3'"):
        index.delete(["id4", "id3"])
    assert "id4" in index, "none is removed if one is unknown"
    index.add(["id3"], x[3:4], [{"n": 3}])
    assert list(index.ids) == [f"id{i}" for i in range(50) if i not in (3, 49)] + ["id3"]
    assert index.search(x[3:4].pool().normalize(), k=1)[0][0].id
    index.delete(index.ids)
    assert len(index) == 0 and index.search(q) == [[]] * 5


def bad_rows() -> dict[str, tuple[list, Embedding, list | None, type[Exception], str]]:
    nan = torch.eye(4)
    nan[2, 1] = torch.nan
    absent = Embedding(torch.eye(4)[:, None], torch.tensor([[True], [False], [True], [True]]))
    fine = Embedding.from_vectors(torch.eye(4))
    ids = ["a", "b", "c", "d"]
    return {
        "nan": (ids, Embedding.from_vectors(nan), None, ValueError, "id 'c' holds NaN or infinity"),
        "infinity": (ids, Embedding.from_vectors(nan.nan_to_num(torch.inf)), None, ValueError, "id 'c' holds NaN"),
        "absent": (ids, absent, None, ValueError, "id 'b' has no vector"),
        "width": (ids, vectors(4, 5), None, ValueError, "width 4, got width 5"),
        "taken": (["x", "a", "b", "c"], fine, None, ValueError, "id 'x' is there already"),
        "twice": (["a", "b", "b", "c"], fine, None, ValueError, "id 'b' is there already"),
        "few ids": (["a"], fine, None, ValueError, "4 vectors but 1 ids"),
        "one string": ("abcd", fine, None, TypeError, "a list of ids is expected"),
        "numbers": ([1, 2, 3, 4], fine, None, TypeError, "ids are strings, got int 1"),
        "few payloads": (ids, fine, ["p"], ValueError, "4 vectors but 1 payloads"),
        "payload": (ids, fine, [1, 2, {3}, 4], ValueError, "payload of id 'c' can't be kept as JSON"),
        "NaN payload": (ids, fine, [1, 2, 3, float("nan")], ValueError, "payload of id 'd' can't be kept as JSON"),
    }


@pytest.mark.parametrize("case", bad_rows())
def test_bad_rows_are_named_and_nothing_is_added(case):
    ids, x, payloads, error, message = bad_rows()[case]
    index = Exact()
    index.add(["x"], Embedding.from_vectors(torch.ones(1, 4)))
    with pytest.raises(error, match=message):
        index.add(ids, x, payloads)
    assert list(index.ids) == ["x"] and len(index.search(vectors(1, 4), k=9)[0]) == 1


def test_absent_rows_can_be_skipped_and_absent_queries_find_nothing():
    mask = torch.tensor([[True], [False], [True]])
    index = Exact()
    index.add(["a", "b", "c"], Embedding(torch.eye(3)[:, None], mask), [1, 2, 3], skip_absent=True)
    assert list(index.ids) == ["a", "c"]
    hits = index.search(Embedding(torch.eye(3)[:, None], mask), k=1)
    assert hits == [[Hit("a", 1.0, 1)], [], [Hit("c", 1.0, 3)]]


def test_bad_queries_are_named():
    index = filled(vectors(3))
    with pytest.raises(ValueError, match="k 0 must be at least 1"):
        index.search(vectors(1), k=0)
    with pytest.raises(ValueError, match="width 16, the queries have width 5"):
        index.search(vectors(1, 5))
    with pytest.raises(ValueError, match="query 1 holds NaN"):
        index.search(Embedding.from_vectors(torch.tensor([[0.0] * 16, [torch.nan] * 16])))
    with pytest.raises(TypeError, match=r"an Embedding, got str 'a cat'; encode first: index.search\(space.encode\("):
        index.search("a cat")
    assert index.search(vectors(0)) == [] and Exact().search(vectors(2, 3)) == [[], []]


def test_what_is_added_is_copied_and_needs_no_gradient():
    values = torch.eye(3, requires_grad=True)
    index = Exact()
    index.add(["a", "b", "c"], Embedding.from_vectors(values * 1.0))
    other = Embedding.from_vectors(torch.eye(3))
    index.add(["d", "e", "f"], other)
    other.values.zero_()
    with torch.inference_mode():
        found = index.search(Embedding.from_vectors(torch.eye(3)).to(torch.bfloat16), k=2)
    assert [[hit.id for hit in row] for row in found] == [["a", "d"], ["b", "e"], ["c", "f"]]


@pytest.mark.parametrize("documents", [vectors, multivectors])
def test_saves_and_loads_to_the_bit(tmp_path, documents):
    q, index = vectors(5, seed=1), filled(documents(100))
    index.meta = {"space": "demo", "tower": "image"}
    index.save(tmp_path / "new" / "index")
    facts = json.loads((tmp_path / "new/index/index.json").read_text())
    assert {p.name for p in (tmp_path / "new/index").iterdir()} == {".lock", *facts["files"]}
    assert len(facts["files"]) == 2, "index.json and one segment"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["index"], "no leftovers"
    for again in (Exact.load(tmp_path / "new/index"), open_index(str(tmp_path / "new/index"))):
        assert again.search(q, k=100) == index.search(q, k=100)
        assert list(again.ids) == list(index.ids) and again.meta == index.meta
    assert again.spec.name == "exact"
    assert facts["kind"] == "exact" and facts["dim"] == 16 and facts["count"] == 100


def test_a_loaded_index_goes_on_and_replaces_itself(tmp_path):
    x = vectors(100)
    filled(x[:60]).save(tmp_path / "index")
    index = Exact.load(tmp_path / "index")
    index.add(names(100)[60:], x[60:], [{"n": i} for i in range(60, 100)])
    index.delete(["id0"])
    index.save(tmp_path / "index")
    again = Exact.load(tmp_path / "index")
    mask = torch.arange(100) > 0
    for one in (index, again):
        same(one.search(vectors(5, seed=1), k=10), brute_force(vectors(5, seed=1), x, 10, mask))


def test_an_empty_index_saves_and_loads(tmp_path):
    Exact().save(tmp_path / "index")
    index = open_index(tmp_path / "index")
    assert len(index) == 0 and index.search(vectors(1)) == [[]]
    index.add(["a"], vectors(1))
    assert len(index) == 1 and index.search(vectors(1))[0][0].id == "a"


def resident() -> float:
    """MiB of this process in memory, mapped pages of files among them."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loading_maps_the_file_rather_than_reading_it(tmp_path):
    n, dim = 1000, 20_000  # 76 MiB of vectors, few ids
    index = Exact()
    index.add(names(n), Embedding.from_vectors(torch.ones(n, dim)))
    index.save(tmp_path / "index")
    before = resident()
    again = Exact.load(tmp_path / "index")
    assert resident() - before < 30, "loading read the vectors"
    again.search(Embedding.from_vectors(torch.ones(1, dim)))
    assert resident() - before > 60, "the measure works: searching brings the vectors in"


def test_registered_by_name():
    index = coembed.load("exact", "index")
    assert isinstance(index, Exact) and isinstance(index, Index) and index.kind == index.spec.name == "exact"
    assert index.recall == 1.0
