"""Many towers in one space: pairs and their weights, shares of small sets, what emerges, and p by bootstrap."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch

import coembed
from coembed import Record, Records, Space
from coembed.evaluation import evaluate
from coembed.metrics import compare
from coembed.objectives import Objective
from coembed.runfile import parse
from coembed.settings import Part, RunError
from coembed.tasks import Contrast
from coembed.testing import toy_encoder
from coembed.training.sampler import Schedule, proportions


class Told(Objective):
    """An objective that says what it was asked, and gives each pair of towers a loss of its own."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values, self.rows = values, []

    def forward(self, a, b, *, weights=None, keys=None, mask=None, negatives=None):
        self.rows.append(len(a))
        return a.values.sum() * 0 + self.values[len(self.rows) - 1]


def chain(*names: str) -> Records:
    """Records that have two neighbours of a chain of towers each, none all; `label` says which are of one thing."""
    return Records(
        Record({a: f"{a} {i}", b: f"{b} {i}"}, id=f"{a}{b}{i}", label=str(i))
        for a, b in pairwise(names)
        for i in range(6)
    )


def space_of(*names: str, dim: int = 8) -> Space:
    return Space({name: toy_encoder(dim=dim, seed=i) for i, name in enumerate(names)}, dim=dim, aligner="linear")


def embed_of(space, records):
    return lambda tower, rows, role: space.encode(tower, [records[i][tower] for i in rows], role=role)


def test_a_pairs_weight_is_its_share_of_the_loss():
    space, source = space_of("a", "b", "c"), chain("a", "b", "c")
    records = list(source)
    task = Contrast(source, ("a", "b", "c"), Told([1.0, 5.0]), pairs={("a", "b"): 3.0, ("b", "c"): 1.0})
    task.prepare(space)
    assert task.loss(records, embed_of(space, records), space).item() == pytest.approx((3 * 1 + 5) / 4)
    alone = Contrast(source, ("a", "b", "c"), Told([7.0]), pairs={("a", "b"): 3.0, ("b", "c"): 1.0})
    alone.prepare(space)
    few = records[:6]  # of these, none has b and c: the weights that are there are the whole
    assert alone.loss(few, embed_of(space, few), space).item() == pytest.approx(7)
    assert alone.objective.rows == [6]


def test_a_contrast_takes_any_subset_of_towers_with_a_hub_or_none():
    source = chain("dna", "protein", "text")
    space = space_of("dna", "protein", "text", "image")
    task = Contrast(source, tuple(space))
    assert all(task.usable(record) for record in source)
    assert task.describe()["pairs"] == [["dna", "protein"], ["protein", "text"]], "only what some record has"
    history = coembed.fit(space, tasks=[task], steps=3, batch_size=8, cache=False)
    assert all(loss == loss for loss in history.losses)
    assert space.trained_pairs == {frozenset(("dna", "protein")), frozenset(("protein", "text"))}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a", "x")], "not of two of the contrast's towers"),
        ([("a", "a")], "not of two of the contrast's towers"),
        ([], "a pair of towers or more"),
        ({("a", "b"): 0.0}, "must be positive"),
        ({("a", "b"): float("nan")}, "must be positive"),
    ],
)
def test_pairs_that_cannot_be_are_named(pairs, message):
    with pytest.raises(ValueError, match=message):
        Contrast(chain("a", "b"), ("a", "b"), pairs=pairs)


def run_of(pairs):
    return {
        "towers": {"a": "text/tfidf", "b": "text/tfidf", "c": "text/tfidf"},
        "sources": [{"path": "x.jsonl"}],
        "tasks": [{"pairs": pairs}],
    }


def test_a_run_file_gives_pairs_their_weights(tmp_path):
    (task,) = parse(Part(run_of([["a", "b"], ["b", "c", 2]]), "run.yaml"), tmp_path).tasks
    assert task.pairs == (("a", "b", 1.0), ("b", "c", 2.0))
    for bad in ([["a", "b", 0]], [["a", "b", "much"]], [["a", "b", 1, 1]], [["a"]], [["a", "b", True]]):
        with pytest.raises(RunError, match=r"tasks.*pairs"):
            parse(Part(run_of(bad), "run.yaml"), tmp_path)


def draws(sizes, mixing, batch, steps):
    """How often each record of each set is drawn on average."""
    batches = [max(1, size // batch) for size in sizes]
    schedule = Schedule(sizes, proportions(batches, [1.0] * len(sizes), mixing), batch_size=batch, steps=steps, seed=0)
    taken = [0] * len(sizes)
    for step in range(steps):
        task, at = schedule.batch(step)
        taken[task] += len(at)
    return [count / size for count, size in zip(taken, sizes, strict=True)]


def test_mixing_neither_drowns_nor_overdraws_a_small_set():
    sizes, batch = [32, 3200], 32  # one batch and a hundred
    even = draws(sizes, 1.0, batch, 1010)
    assert even == pytest.approx([10, 10]), "at 1 every record is drawn equally often, however small its set"
    root = draws(sizes, 2.0, batch, 1100)
    assert root[0] / root[1] == pytest.approx(10, rel=0.05), "at 2, by the root of the ratio"
    flat = draws(sizes, 1e9, batch, 1000)
    assert flat[0] / flat[1] == pytest.approx(100, rel=0.05), "towards infinity each set has the same steps"


def test_a_set_smaller_than_a_batch_is_drawn_whole_and_not_more_often_than_the_others():
    once = draws([5, 320], 1.0, 32, 110)
    assert once == pytest.approx([10, 10])


def test_emergent_directions_are_marked_and_survive_saving(tmp_path, capsys):
    from coembed.cli import output

    space, source = space_of("dna", "protein", "text"), chain("dna", "protein", "text")
    assert all("emergent" not in row for row in evaluate(space, source).values()), "nothing has trained yet"
    coembed.fit(space, source, steps=2, cache=False)
    space.save(tmp_path / "space")
    towers = {name: space[name] for name in space}
    again = Space.load(tmp_path / "space", towers=towers)
    assert again.trained_pairs == space.trained_pairs
    found = evaluate(again, source, labels=True)
    assert {name for name, row in found.items() if row["emergent"]} == {"dna->text", "text->dna"}
    assert found["dna->text"]["n"] == 6, "by way of the protein's label"
    assert "dna->text" not in evaluate(again, source), "no record has both"
    json.dumps(found)
    output.figures(found, "12 records")
    printed = capsys.readouterr().out
    assert printed.index("dna->protein") < printed.index("emergent: ") < printed.index("dna->text")


def test_roles_and_dim_reach_the_towers():
    calls = []

    class Spy:
        def __iter__(self):
            return iter(("q", "d"))

        def encode(self, tower, items, **asked):
            calls.append((tower, asked.get("role"), asked.get("dim")))
            return coembed.Embedding.from_vectors(torch.eye(len(items)))

    pairs = Records.pairs(q=["1", "2"], d=["x", "y"])
    evaluate(Spy(), pairs, roles={"q": "query"}, dim=2)
    assert calls == [("q", "query", 2), ("d", None, 2)]
    with pytest.raises(ValueError, match="roles names 'question'"):
        evaluate(Spy(), pairs, roles={"question": "query"})


def test_figures_by_query_are_those_of_the_means():
    space = space_of("a", "b")
    found = evaluate(space, chain("a", "b"), queries=True, intervals=50)["a->b"]
    assert sum(found["query_MRR"]) / found["n"] == pytest.approx(found["MRR"])
    assert sum(found["query_chance_MRR"]) / found["n"] == pytest.approx(found["chance_MRR"])
    assert len(found["query_group"]) == found["n"] and 0 < found["p_chance"] <= 1


def test_p_is_uniform_where_there_is_nothing_to_find():
    generator = torch.Generator().manual_seed(0)
    ps = []
    for _ in range(200):
        ours, theirs = torch.rand(2, 60, generator=generator)
        groups = [i // 2 for i in range(60)]
        ps.append(compare(ours, theirs, groups, n=200).p)
    below = [sum(p <= level for p in ps) / len(ps) for level in (0.05, 0.25, 0.5, 0.75)]
    for share, level, slack in zip(below, (0.05, 0.25, 0.5, 0.75), (0.05, 0.1, 0.1, 0.1), strict=True):
        assert abs(share - level) < slack, (share, level)


def test_p_of_equal_systems_of_one_group_and_of_a_real_difference():
    x = torch.rand(40, generator=torch.Generator().manual_seed(0))
    assert compare(x, x).p >= 0.5
    assert compare(x, x + 0.1).p == 1
    assert compare(x + 0.1, x).p == pytest.approx(1 / 2001)
    assert compare(x + 0.1, x, ["one"] * 40).p == 1, "one group can't vary, so it shows nothing"
    low_p = compare(x + 0.5 * torch.rand(40, generator=torch.Generator().manual_seed(1)), x)
    assert 0 < low_p.low < low_p.difference < low_p.high
    with pytest.raises(ValueError, match="40 values but 2 groups"):
        compare(x, x, ["a", "b"])
    with pytest.raises(ValueError, match=r"\[40\] figures"):
        compare(x, x[:3])


def test_queries_of_one_group_count_once():
    """Ten copies of a difference are no more evidence than one."""
    generator = torch.Generator().manual_seed(3)
    ours, theirs = torch.rand(2, 8, generator=generator)
    groups = list(range(8))
    once = compare(ours, theirs, groups)
    copied = compare(ours.repeat(10), theirs.repeat(10), groups * 10)
    assert copied.p == once.p and copied.low == pytest.approx(once.low)
