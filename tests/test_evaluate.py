"""evaluate: both directions of every pair of towers, with equal items counted as equally right."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

import coembed
from coembed import Embedding, Record, Records
from coembed.evaluation import Retrieval, evaluate
from coembed.plugins import PluginError


class Fake:
    """A space that looks vectors up; counts what it encodes."""

    def __init__(self, table: dict[str, dict[str, list[float]]]) -> None:
        self.table = table
        self.calls: list[tuple[str, list[str]]] = []

    def __iter__(self):
        return iter(self.table)

    def encode(self, tower, items, *, batch_size=32, progress=False):
        self.calls.append((tower, list(items)))
        return Embedding.from_vectors(torch.tensor([self.table[tower][item] for item in items])).normalize()


class Constant:
    """A collapsed space: every item at one point."""

    def encode(self, tower, items, *, batch_size=32, progress=False):
        return Embedding.from_vectors(torch.ones(len(items), 8)).normalize()


def axes(*names: str) -> dict[str, list[float]]:
    return {name: row for name, row in zip(names, torch.eye(8).tolist(), strict=False)}


def test_a_perfect_space_is_perfect_both_ways():
    space = Fake({"image": axes("1", "2", "3"), "text": axes("one", "two", "three")})
    found = evaluate(space, Records.pairs(image=["1", "2", "3"], text=["one", "two", "three"]))
    assert list(found) == ["image->text", "text->image"]
    for figures in found.values():
        assert (figures["n"], figures["candidates"], figures["missing"], figures["distinct"]) == (3, 3, 0, 3)
        assert figures["R@1"] == figures["MRR"] == figures["nDCG@10"] == figures["MAP"] == figures["median_rank"] == 1
        assert figures["chance_R@1"] == pytest.approx(1 / 3)
        assert figures["gap"] == pytest.approx(0)
    json.dumps(found)


@pytest.mark.parametrize("n", [8, 15, 60])
def test_constant_embeddings_score_at_chance(n):
    names = [str(i) for i in range(n)]
    found = evaluate(Constant(), Records.pairs(image=names, text=names))
    for figures in found.values():
        assert figures["distinct"] == 1 and figures["gap"] == pytest.approx(0)
        for name in ("R@1", "R@5", "R@10", "MRR", "nDCG@10", "MAP", "median_rank"):
            assert figures[name] == pytest.approx(figures[f"chance_{name}"]), name
        assert figures["R@10"] == pytest.approx(min(1, 10 / n))


def test_random_embeddings_score_near_chance_and_reversed_ones_below():
    n = 400
    names = [str(i) for i in range(n)]
    vectors = torch.randn(2, n, 16, generator=torch.Generator().manual_seed(0)).tolist()
    table = {tower: dict(zip(names, rows, strict=True)) for tower, rows in zip(("a", "b"), vectors, strict=True)}
    figures = evaluate(Fake(table), Records.pairs(a=names, b=names))["a->b"]
    assert figures["R@10"] == pytest.approx(figures["chance_R@10"], abs=0.03)
    table["b"] = {name: [-x for x in row] for name, row in table["a"].items()}
    assert evaluate(Fake(table), Records.pairs(a=names, b=names))["a->b"]["median_rank"] == n


def test_equal_items_are_one_candidate_and_equally_right():
    # Two pictures carry the same words: either is right for them, and neither is punished for the other.
    images = axes("cat1", "cat2", "dog")
    cat = [x + y for x, y in zip(images["cat1"], images["cat2"], strict=True)]
    space = Fake({"image": images, "text": {"cat": cat, "dog": images["dog"]}})
    found = evaluate(space, Records.pairs(image=["cat1", "cat2", "dog"], text=["cat", "cat", "dog"]))
    assert found["image->text"]["candidates"] == 2 and found["image->text"]["R@1"] == 1
    assert found["text->image"]["n"] == 2 and found["text->image"]["candidates"] == 3
    assert found["text->image"]["R@1"] == found["text->image"]["MAP"] == 1
    assert found["text->image"]["chance_R@1"] == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_each_item_is_encoded_once():
    space = Fake({t: axes("x", "y") for t in ("image", "text", "code")})
    evaluate(space, Records.pairs(image=["x", "y", "x"], text=["x", "y", "x"], code=["y", "x", "y"]))
    assert sorted(space.calls) == [("code", ["y", "x"]), ("image", ["x", "y"]), ("text", ["x", "y"])]


def test_labels_make_more_right_and_join_towers_that_share_no_record():
    records = [
        Record({"image": "1"}, id="a", label="cat"),
        Record({"image": "2"}, id="b", label="cat"),
        Record({"image": "3"}, id="c", label="dog"),
        Record({"text": "cat"}, id="d", label="cat"),
        Record({"text": "dog"}, id="e", label="dog"),
        Record({"text": "cow"}, id="f", label="cow"),
        Record({"text": "?"}, id="g"),
    ]
    space = Fake({"image": axes("1", "2", "3"), "text": axes("cat", "dog", "cow", "?")})
    with pytest.raises(ValueError, match="no record has two towers"):
        evaluate(space, Records(records))
    found = evaluate(space, Records(records), labels=True)
    assert found["image->text"]["n"] == 3 and found["image->text"]["candidates"] == 2
    assert found["text->image"]["n"] == 2 and found["text->image"]["candidates"] == 3
    # image 1 is at cat's axis (right), 2 at dog's (wrong), 3 at cow's, which is no candidate: a tie of two
    assert found["image->text"]["R@1"] == pytest.approx((1 + 0 + 0.5) / 3)


def test_records_that_lack_a_tower_stay_out_of_its_pairs():
    records = [
        Record({"image": "1", "text": "one"}, id="a"),
        Record({"text": "two", "code": "2"}, id="b"),
        Record({"text": "three"}, id="c"),
        Record({}, id="d"),
    ]
    space = Fake({"image": axes("1"), "text": axes("one", "two", "three"), "code": axes("2"), "sound": {}})
    found = evaluate(space, Records(records))
    assert set(found) == {"image->text", "text->image", "text->code", "code->text"}
    assert all(figures["n"] == figures["candidates"] == 1 for figures in found.values())
    assert list(evaluate(space, Records(records), pairs=[("code", "text")])) == ["code->text", "text->code"]


def test_absent_and_nan_vectors_are_misses():
    class Holes(Constant):
        def encode(self, tower, items, *, batch_size=32, progress=False):
            values = torch.eye(4)[: len(items), None].clone()
            mask = torch.ones(4, 1, dtype=torch.bool)
            if tower == "text":
                mask[1] = False
                values[2] = torch.nan
            return Embedding(values, mask)

    names = ["0", "1", "2", "3"]
    found = evaluate(Holes(), Records.pairs(image=names, text=names), ks=(1, 4))
    for figures in found.values():
        assert figures["missing"] == 2
        assert figures["R@1"] == figures["R@4"] == 0.5
        assert figures["gap"] == figures["gap"]  # over those that are there


def test_intervals_resample_groups():
    names = [str(i) for i in range(40)]
    vectors = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    noisy = vectors + torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    table = {"a": dict(zip(names, vectors.tolist(), strict=True)), "b": dict(zip(names, noisy.tolist(), strict=True))}
    alone = evaluate(Fake(table), Records.pairs(a=names, b=names), intervals=200)["a->b"]
    low, high = alone["R@1_interval"]
    assert 0 < low < alone["R@1"] < high < 1
    grouped = Records.pairs(a=names, b=names, groups=["one"] * 40)
    one = evaluate(Fake(table), grouped, intervals=200)["a->b"]
    assert one["R@1_interval"] == pytest.approx([one["R@1"]] * 2)  # one group can't vary


def test_unknown_towers_and_empty_sources_are_named():
    space = Fake({"image": axes("1"), "text": axes("one")})
    pairs = Records.pairs(image=["1"], text=["one"])
    with pytest.raises(ValueError, match="no tower 'txt'; did you mean 'text'"):
        evaluate(space, pairs, pairs=[("image", "txt")])
    with pytest.raises(ValueError, match="0 records have none"):
        evaluate(space, Records([]))
    with pytest.raises(ValueError, match="no record has both 'image' and 'text'"):
        evaluate(space, Records([Record({"image": "1"}, id="1")]), pairs=[("image", "text")])


def test_the_registered_eval_is_the_same():
    space = Fake({"image": axes("1", "2"), "text": axes("one", "two")})
    source = Records.pairs(image=["1", "2"], text=["one", "two"])
    retrieval = coembed.load("retrieval", "eval", ks=[1])
    assert isinstance(retrieval, Retrieval) and retrieval.spec.name == "retrieval"
    assert retrieval(space, source) == evaluate(space, source, ks=[1])
    with pytest.raises(PluginError, match="an eval, but an index"):
        coembed.load("retrieval", "index")


def test_items_are_told_apart_by_their_encoder():
    class Lower:
        def key(self, item):
            return item.lower().encode()

    class Towers(Fake):
        towers = {"text": type("Tower", (), {"encoder": Lower()})()}  # noqa: RUF012

    space = Towers({"image": axes("1", "2"), "text": axes("one", "two")})
    evaluate(space, Records.pairs(image=["1", "2"], text=["one", "ONE"]))
    assert ("text", ["one"]) in space.calls


def test_no_public_name_is_also_a_module() -> None:
    """Importing `coembed.x` sets that attribute to the module, and a function of the same name would be gone."""
    assert [name for name in coembed.__all__ if importlib.util.find_spec(f"coembed.{name}")] == []
