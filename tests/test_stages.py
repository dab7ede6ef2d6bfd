"""Runs in stages: each with its own tasks and settings, one history, one series of checkpoints."""

from __future__ import annotations

import pytest
import torch

import coembed
from coembed import Contrast, Mined, Miner, Record, Records, Space, Stage, Tower, load
from coembed.testing import toy_encoder
from coembed.training.step import Step

WORDS = [f"{a} {b}" for a in ("red", "green", "blue", "small", "big") for b in ("cat", "dog", "fish", "sun")]


def space():
    return Space(
        {n: Tower(toy_encoder(dim=12, seed=i), "linear", dim=8, train="all", seed=i) for i, n in enumerate("ab")}
    )


def pairs():
    return Records.pairs(a=WORDS, b=[w.upper() for w in WORDS])


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_one_stage_is_a_run_without_stages():
    one, two = space(), space()
    a = coembed.fit(one, pairs(), steps=6, batch_size=5, lr=1e-2)
    b = coembed.fit(two, pairs(), stages=[Stage(steps=6)], batch_size=5, lr=1e-2)
    assert a.losses == b.losses and equal(state(one), state(two))


def test_settings_are_those_of_the_stage_or_of_the_run():
    model = space()
    stages = [Stage(steps=4), Stage(epochs=2, batch_size=10, lr=1e-4, warmup=0.0), Stage(epochs=1, objective="siglip")]
    history = coembed.fit(model, pairs(), stages=stages, batch_size=5, lr=1e-2, warmup=0.5)
    assert [row["stage"] for row in history.rows] == [0] * 4 + [1] * 4 + [2] * 4
    assert [row["step"] for row in history.rows] == list(range(1, 13))
    rates = [row["lr"] for row in history.rows]
    assert rates[:2] == pytest.approx([5e-3, 1e-2]) and rates[4] == pytest.approx(1e-4)
    (run,) = model.card["runs"]
    assert [stage["steps"] for stage in run["stages"]] == [4, 4, 4] and run["steps"] == 12
    assert [task["objective"] for task in run["tasks"]] == ["infonce", "siglip"]
    assert [stage["numbers"] for stage in run["stages"]] == [[0], [0], [1]]


def test_an_objective_that_stays_keeps_what_it_learned():
    task = Contrast(pairs(), "ab", load("infonce", temperature=0.5))
    before = task.objective.temperature
    seen = []
    real = Step.__call__

    class Spy(Step):
        def __call__(self, step):
            seen.append((task.objective.temperature, self.leg.tasks[0].in_batch))
            return real(self, step)

    coembed.train.Step, kept = Spy, Step
    try:
        mined = Mined("a", "b", {str(i): (str((i + 3) % 20),) for i in range(20)})
        stages = [Stage(steps=5), Stage(steps=5, negatives=mined, in_batch=False)]
        coembed.fit(space(), tasks=[task], stages=stages, batch_size=5, lr=1e-1)
    finally:
        coembed.train.Step = kept
    assert [on for _, on in seen] == [True] * 5 + [False] * 5
    temperatures = [t for t, _ in seen]
    assert temperatures[0] == before and len(set(temperatures)) >= 9, "one parameter, learned through both stages"


def test_miners_look_again_when_a_stage_begins():
    model, found = space(), []
    task = Contrast(pairs(), "ab", negatives=Miner(k=3, ratio=None))
    real = coembed.training.neighbours.search

    def spied(*given, **named):
        got = real(*given, **named)
        found.append((state(model), got.table.clone()))
        return got

    coembed.training.neighbours.search = spied
    try:
        coembed.fit(model, tasks=[task], stages=[Stage(steps=8), Stage(steps=2)], batch_size=5, lr=3e-2)
    finally:
        coembed.training.neighbours.search = real
    (before, one), (after, two) = found
    assert not equal(before, after) and not torch.equal(one, two)
    again = space()
    again.load_state_dict(after)
    wanted = coembed.mine(again, pairs(), "a", "b", Miner(k=3, ratio=None))
    assert [[str(j) for j in row] for row in two.tolist()] == [list(names) for names in wanted.ids.values()]


@pytest.mark.parametrize("stopped", range(1, 11))
def test_a_run_goes_on_from_any_step_with_the_same_bits(tmp_path, stopped, monkeypatch):
    def run(out):
        model = space()
        task = Contrast(pairs(), "ab", negatives=Miner(k=3, ratio=None, draw=2), memory=12)
        stages = [Stage(steps=4), Stage(steps=3, memory=6, lr=1e-3), Stage(steps=4, tasks=[task])]
        history = coembed.fit(
            model, tasks=[task], stages=stages, batch_size=4, lr=1e-2, ema=0.9, out=out, checkpoint_every=1
        )
        return model, history

    whole, history = run(None)
    real = Step.__call__

    def stops(self, step):
        if step == stopped:
            raise InterruptedError
        return real(self, step)

    monkeypatch.setattr(Step, "__call__", stops)
    with pytest.raises(InterruptedError):
        run(tmp_path)
    monkeypatch.setattr(Step, "__call__", real)
    again, rows = run(tmp_path)
    assert rows.resumed_at == stopped and rows.losses == history.losses
    assert equal(state(again), state(whole))


def test_another_stage_is_another_run(tmp_path):
    coembed.fit(space(), pairs(), stages=[Stage(steps=2), Stage(steps=2)], out=tmp_path)
    with pytest.raises(coembed.training.checkpoint.ResumeError, match=r"stages\[1\]\.lr was 0\.001, is 0\.01"):
        coembed.fit(space(), pairs(), stages=[Stage(steps=2), Stage(steps=2, lr=1e-2)], out=tmp_path)
    with pytest.raises(coembed.training.checkpoint.ResumeError, match="stages"):
        coembed.fit(space(), pairs(), steps=4, out=tmp_path)


def test_stages_may_have_all_the_tasks():
    one, two = Contrast(pairs(), "ab"), Contrast(Records([Record({"a": w, "b": w}, id=w) for w in WORDS]), "ab")
    history = coembed.fit(space(), stages=[Stage(steps=2, tasks=[one]), Stage(steps=3, tasks=[two, one])], batch_size=4)
    numbers = [row["task"] for row in history.rows]
    assert numbers[:2] == [0, 0] and sorted(set(numbers[2:])) == [0, 1]


@pytest.mark.parametrize(
    ("stages", "error", "message"),
    [
        ([], ValueError, "stages is empty"),
        (Stage(), TypeError, "a list is expected"),
        ([{"steps": 1}], TypeError, "element 0 of stages is a dict"),
        ([Stage(), Stage(steps=0)], ValueError, "stage 1: steps is 0"),
        ([Stage(tasks=[])], ValueError, "tasks is empty"),
        ([Stage(), Stage(batch_size=1)], ValueError, "stage 1: batch_size is 1"),
        ([Stage(in_batch=False)], ValueError, "in_batch=False leaves a row"),
    ],
)
def test_stages_that_can_not_be_are_said(stages, error, message):
    with pytest.raises(error, match=message):
        coembed.fit(space(), pairs(), stages=stages)
