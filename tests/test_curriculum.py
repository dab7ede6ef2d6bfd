"""Hard negatives, memories, ways to make batches and stages in run files, and through `coembed align`."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import torch

import coembed
from coembed import runfile
from coembed.cli import main
from coembed.settings import RunError
from coembed.training.step import Step

WORDS = ["red", "green", "blue", "small", "large", "cat", "dog", "house", "tree", "fish"]
RUN = """\
towers: {a: good/bytes, b: good/small}
sources:
  - {path: pairs.jsonl, name: pairs, group: group}
  - {path: more.jsonl, name: more, group: group}
tasks:
  - name: walked
    source: pairs
    objective: {name: infonce, temperature: {start: 0.2, end: 0.05}}
    memory: {size: 40, age: 3}
    batches: {locality: {given: {k: 8, ratio: null}, draw: [0, 4], push: [2, 8]}}
  - name: both
    source: [pairs, more]
    objective: {name: progressive, alpha: {start: 0, end: 1}, guard: 0.1}
    negatives: {k: 4, draw: 2, ratio: 0.95, same: group, index: {name: exact}}
    batches: {homogeneous: source}
stages:
  - {steps: 6}
  - {steps: 5, tasks: [both], in_batch: false, lr: 1e-3, batch_size: 8, negatives: mined.json, batches: mixed}
fit: {batch_size: 16, lr: 1e-2, checkpoint_every: 1}
out: space
"""


@pytest.fixture(autouse=True)
def here(fakes, tmp_path, monkeypatch):
    """A working folder with a run file, two files of pairs and mined negatives of both."""
    fakes("good")
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    for name in ("pairs", "more"):
        texts = sorted({" ".join(draw.sample(WORDS, 3)) for _ in range(60)})
        rows = [{"id": f"r{i}", "a": text, "b": text.upper(), "group": text} for i, text in enumerate(texts)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ids = {f"pairs:r{i}": (f"more:r{i + 1}",) for i in range(0, 40, 3)}
    Path("run.yaml").write_text(RUN)
    return ids


def negatives(ids):
    """Those that train: held-out records are no negatives."""
    run = runfile.read(Path("run.yaml"))
    from coembed.cli.assemble import open_sources, split

    names = [source.name for source in run.sources]
    train, _ = split(open_sources(run.sources), names, run.held_out, 0)
    there = {f"{name}:{record.id}" for name, source in zip(names, train, strict=True) for record in source}
    kept = {k: v for k, v in ids.items() if k in there and set(v) <= there}
    coembed.Mined("a", "b", kept).save("mined.json")


def test_align_goes_through_the_stages_and_goes_on_exactly(here, monkeypatch, capsys):
    negatives(here)
    assert main(["align", "run.yaml"]) == 0
    rows = [json.loads(line) for line in Path("space/history.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in rows if "loss" in row] == [0] * 6 + [1] * 5
    assert {row["task"] for row in rows if row.get("stage") == 0} == {0, 1}
    assert {row["task"] for row in rows if row.get("stage") == 1} == {2}, "the changed task"
    card = coembed.Space.load("space").card
    walked, both, alone = card["runs"][0]["tasks"]
    assert walked["memory"] == {"size": 40, "age": 3} and walked["of"]["k"] == 8
    assert both["negatives"]["k"] == 4 and both["by"] == "source" and both["negatives"]["index"].startswith("exact")
    assert alone["in_batch"] is False and "mined" in alone["negatives"] and "by" not in alone
    whole = {k: v.clone() for k, v in coembed.Space.load("space").state_dict().items()}

    real = Step.__call__
    for stop in (3, 6, 9):
        monkeypatch.setattr(Step, "__call__", lambda self, step, at=stop: _stop() if step == at else real(self, step))
        assert main(["align", "run.yaml", "--out", f"again{stop}"]) != 0
        monkeypatch.setattr(Step, "__call__", real)
        assert main(["align", "run.yaml", "--out", f"again{stop}"]) == 0
        for name, tensor in coembed.Space.load(f"again{stop}").state_dict().items():
            assert torch.equal(tensor, whole[name]), (stop, name)
    capsys.readouterr()


def _stop():
    raise ValueError("stopped here")


def test_a_run_of_one_objective_may_have_stages_too():
    text = RUN.split("tasks:")[0].replace("  - {path: more.jsonl, name: more, group: group}\n", "")
    text += "stages: [{steps: 3}, {steps: 2, negatives: {k: 3}, in_batch: false}, {epochs: 1, objective: siglip}]\n"
    Path("run.yaml").write_text(text + "fit: {batch_size: 16}\nout: space\n")
    assert main(["align", "run.yaml"]) == 0
    (run,) = coembed.Space.load("space").card["runs"]
    assert [stage["steps"] for stage in run["stages"]][:2] == [3, 2]
    assert [task["objective"] for task in run["tasks"]] == ["infonce", "infonce", "siglip"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("k: 4, draw", "n: 4, draw"), r"line 11.*tasks\[1\].*negatives.*no such key 'n'"),
        (("ratio: 0.95", "ratio: 2"), r"tasks\[1\]\.negatives: ratio 2 of a miner"),
        (("same: group", "same: colour"), r"negatives: same='colour'"),
        (("{name: exact}", "{name: exat}"), r"negatives\.index: .*exat"),
        (("{name: exact}", "7"), r"negatives\.index: the name of an index"),
        (("age: 3", "ages: 3"), r"tasks\[0\]\.memory, ages: no such key 'ages'; did you mean age"),
        (("size: 40", "size: 0"), r"memory: size of a memory is 0"),
        (("homogeneous: source", "homogenous: source"), r"tasks\[1\]\.batches: batches .*homogenous"),
        (("draw: [0, 4]", "draw: [4, 0]"), r"tasks\[0\]\.batches: locality draw \[4, 0\]"),
        (("given: {k: 8", "given: {q: 8"), r"batches\.locality\.given, q: no such key 'q'"),
        (("in_batch: false", "in_batch: 3"), r"stages\[1\].in_batch: true or false is expected"),
        (("tasks: [both]", "tasks: [bth]"), r"stages\[1\].tasks: no task 'bth'; did you mean both"),
        (("tasks: [both]", "tasks: [4]"), r"stages\[1\].tasks: 4: there are 2 tasks"),
        (("{steps: 6}", "{step: 6}"), r"stages\[0\].step: no such key 'step'; did you mean steps"),
        (("{steps: 6}", "{steps: 0}"), r"stages\[0\].steps: 0 must be positive"),
        (("{steps: 6}", "{in_batch: false}"), r"stages\[0\]: in_batch=False leaves a row"),
        (("mined.json", "nowhere.json"), r"stages\[1\]\.negatives: .*nowhere\.json"),
        (("name: walked", "name: both"), r"tasks: two tasks have one name"),
        (("[pairs, more]", "[pairs, pairs]"), r"source: give each source of the task once"),
        (("[pairs, more]", "[pairs, mor]"), r"source: no source 'mor'; did you mean more"),
        (("{start: 0.2, end: 0.05}", "{start: 0.2, stop: 0.05}"), r"objective.*ramp takes no argument 'stop'"),
    ],
)
def test_faults_are_named_by_key(here, change, message, capsys):
    negatives(here)
    text = Path("run.yaml").read_text()
    assert change[0] in text
    Path("run.yaml").write_text(text.replace(*change))
    assert main(["align", "run.yaml"]) != 0
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not Path("space").exists(), "before the long work"


def test_the_example_of_the_docstring_reads(tmp_path):
    from inspect import cleandoc

    from coembed import curriculum

    example = (curriculum.__doc__ or "").split("stages.\n", 1)[1].split("A stage's keys")[0]
    path = tmp_path / "example.yaml"
    path.write_text("towers: {text: good/bytes, code: good/small}\nsource: pairs.jsonl\n" + cleandoc(example))
    run = runfile.read(path)
    assert run.tasks[0].harder.memory == {"size": 4096, "age": 50} and run.stages[1].tasks == (0,)
    assert run.stages[1].settings == {"epochs": 2.0, "batch_size": 64, "lr": 1e-4}


def test_a_pretext_has_no_negatives(tmp_path):
    path = tmp_path / "pretext.yaml"
    path.write_text(
        "towers: {a: good/bytes}\nsource: {path: pairs.jsonl}\ntasks: [{towers: [a], pretext: good/mask, memory: 3}]\n"
    )
    with pytest.raises(RunError, match=r"tasks\[0\].memory: a pretext compares no records"):
        runfile.read(path)
