"""Fusion and calibration: ranks, ties, what a list lacks, and probabilities that mean something."""

from __future__ import annotations

import math
import random

import pytest

from coembed.index import Hit
from coembed_retrieval import RRF, Calibrate, Pipeline, Weighted
from coembed_retrieval.calibration import calibrated
from coembed_retrieval.fusion import fusion, mid_ranks


def hits(*pairs):
    return [Hit(name, score, {"of": name}) for name, score in pairs]


def fused(fuse, *lists):
    return [(hit.id, hit.score) for hit in fuse(lists)]


def test_rrf_is_its_formula_and_keeps_payloads():
    one, two = hits(("a", 3.0), ("b", 2.0), ("c", 1.0)), hits(("c", 9.0), ("d", 8.0))
    found = dict(fused(RRF(), one, two))
    assert found == pytest.approx({"a": 1 / 61, "b": 1 / 62, "c": 1 / 63 + 1 / 61, "d": 1 / 62})
    assert {hit.id: hit.payload["of"] for hit in RRF()([one, two])} == {name: name for name in "abcd"}
    bare = [Hit("a", 1.0)]
    assert RRF()([bare, one])[0].payload == {"of": "a"}, "the payload of a list that has one"


def test_rrf_does_not_depend_on_the_order_of_ties():
    one, two = hits(("a", 1.0), ("b", 1.0), ("c", 0.5)), hits(("b", 1.0), ("a", 1.0), ("c", 0.5))
    assert dict(fused(RRF(), one)) == dict(fused(RRF(), two))
    assert mid_ranks(one) == [1.5, 1.5, 3.0]


def test_rrf_ignores_scales_and_weights_count():
    one, two = hits(("a", 3.0), ("b", 2.0)), hits(("b", 0.9), ("a", 0.1))
    scaled = [Hit(hit.id, 1000 * hit.score - 7, hit.payload) for hit in one]
    assert fused(RRF(), one, two) == fused(RRF(), scaled, two)
    assert [name for name, _ in fused(RRF(weights=[2, 1]), one, two)] == ["a", "b"]
    assert [name for name, _ in fused(RRF(weights=[1, 2]), one, two)] == ["b", "a"]


def test_one_list_keeps_its_order_under_any_fusion():
    rng = random.Random(0)
    some = sorted(hits(*((str(i), rng.random()) for i in range(50))), key=lambda hit: -hit.score)
    for fuse in (RRF(), Weighted([1.0]), Weighted([1.0], "z")):
        assert [hit.id for hit in fuse([some])] == [hit.id for hit in some]


@pytest.mark.parametrize("scale", ["minmax", "z"])
def test_weighted_does_not_depend_on_a_list_s_own_scale(scale):
    one, two = hits(("a", 3.0), ("b", 2.5), ("c", 1.0)), hits(("c", 0.9), ("a", 0.4), ("d", 0.1))
    moved = [Hit(hit.id, 40 * hit.score + 5, hit.payload) for hit in one]
    fuse = Weighted([0.3, 0.7], scale)
    assert dict(fused(fuse, moved, two)) == pytest.approx(dict(fused(fuse, one, two)))


def test_what_a_list_lacks_is_no_better_than_its_last():
    found = dict(fused(Weighted([1, 1]), hits(("a", 3.0), ("b", 1.0)), hits(("b", 5.0), ("c", 4.0))))
    assert found == {"a": 1.0, "b": 1.0, "c": 0.0}
    assert dict(fused(Weighted([1, 1]), [], hits(("b", 5.0), ("c", 4.0)))) == {"b": 1.0, "c": 0.0}
    assert dict(fused(Weighted([1, 1]), hits(("a", 2.0)), [])) == {"a": 1.0}, "one hit is the best of its list"


def test_fuse_says_what_it_takes():
    assert isinstance(fusion("rrf", ["a", "b"]), RRF) and fusion(None, ["a"]) is None
    assert fusion({"b": 2, "a": 1}, ["a", "b"]).weights == (1, 2)
    for given, names, said in (
        (None, ["a", "b"], "need fuse='rrf' or weights"),
        ("rff", ["a"], "give 'rrf'"),
        ([1.0], ["a", "b"], "1 weights for 2 retrievers"),
        ({"a": 1.0, "x": 2.0}, ["a", "b"], "weighs a, x, the retrievers are a, b"),
        ([0.0, 0.0], ["a", "b"], "at least one above 0"),
        ([-1.0, 2.0], ["a", "b"], "a weight is -1.0"),
        ([math.nan, 1.0], ["a", "b"], "a weight is nan"),
    ):
        with pytest.raises(ValueError, match=said):
            fusion(given, names)


def drawn(count, seed=0):
    """Scores whose true probability is a sigmoid of them."""
    rng = random.Random(seed)
    scores = [rng.uniform(-4, 4) for _ in range(count)]
    return scores, [rng.random() < 1 / (1 + math.exp(-(2 * s - 1))) for s in scores]


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibrated_scores_are_the_share_that_is_right(kind, tmp_path):
    calibrate = Calibrate(kind).fit(*drawn(4000))
    for score in (-2.0, 0.0, 0.5, 1.0, 2.0):
        assert calibrate([score])[0] == pytest.approx(1 / (1 + math.exp(-(2 * score - 1))), abs=0.06)
    some = [-9.0, -1.0, 0.0, 3.0, 9.0]
    found = calibrate(some)
    assert found == sorted(found) and all(0 <= p <= 1 for p in found)
    calibrate.save(tmp_path / "c.json")
    assert Calibrate.load(tmp_path / "c.json")(some) == found


def test_separable_scores_stay_short_of_certainty():
    found = Calibrate().fit([1.0, 2.0, 3.0, 4.0], [False, False, True, True])([0.0, 2.5, 5.0])
    assert 0 < found[0] < 0.5 == pytest.approx(found[1]) and 0.5 < found[2] < 1


def test_calibration_refuses_what_says_nothing(tmp_path):
    for scores, right in (([1.0, 2.0], [True, True]), ([1.0, math.nan], [True, False]), ([1.0], [True, False])):
        with pytest.raises(ValueError, match=r"Calibrate\.fit"):
            Calibrate().fit(scores, right)
    with pytest.raises(ValueError, match="fit it first"):
        Calibrate()([1.0])
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match="not a saved calibration"):
        Calibrate.load(tmp_path / "x.json")


class Given:
    """A retriever that finds what it is told."""

    def __init__(self, name, found):
        self.name, self.found = name, found

    def retrieve(self, queries, k=10, where=None):
        return [self.found[query][:k] for query in queries]


def test_calibrated_fusion_trusts_the_retriever_that_is_right():
    """One retriever's scores say what is right, the other's are noise on a scale a thousand times as large."""
    rng = random.Random(0)
    good, noise, relevant = {}, {}, []
    for query in range(60):
        right = str(rng.randrange(10))
        relevant.append({right})
        good[query] = sorted(
            hits(*((str(i), (str(i) == right) + rng.random()) for i in range(10))), key=lambda h: -h.score
        )
        noise[query] = sorted(hits(*((str(i), 1000 * rng.random()) for i in range(10))), key=lambda h: -h.score)
    stages = [Given("good", good), Given("noise", noise)]
    fuse = calibrated(stages, list(range(30)), relevant[:30])
    report = Pipeline(stages, fuse).report(list(range(30, 60)), relevant[30:], ks=(1,))
    recall = {stage.stage: stage.recall[1] for stage in report.stages}
    assert recall["fused (weighted)"] >= recall["good"] - 0.1 and recall["fused (weighted)"] > recall["noise"] + 0.3
