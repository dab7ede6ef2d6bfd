"""Run files: what they may say, and how each fault is named by file, line and key."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import coembed
from coembed import runfile
from coembed.settings import RunError, read_yaml, scalar

GOOD = """\
towers:
  image: {encoder: image/timm, kwargs: {model: resnet18}, aligner: {name: mlp, hidden: 8}, pool: mean, train: last:1}
  text: text/minilm
sources:
  - {path: data/pairs.jsonl, towers: {image: file, text: caption}, files: [image], group: family, name: pairs}
  - {source: samples/emoji, language: no, rename: {image: image}}
tasks:
  - {source: pairs, towers: [image, text], objective: {name: infonce, temperature: 5e-2}, weight: 2}
  - {source: 1, objective: siglip, roles: {text: query}}
fit: {epochs: 20, batch_size: 64, lr: {image: 1e-3, "*": 1}}
dim: 128
held_out: 0.2
out: space
"""


def read(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return runfile.read(path)


def test_everything_a_run_file_can_say(tmp_path):
    run = read(tmp_path, GOOD)
    assert run.towers["image"].encoder.options == {"model": "resnet18"}
    assert run.towers["image"].aligner.name == "mlp"
    assert run.towers["image"].aligner.options == {"hidden": 8, "pool": "mean"}
    assert (run.towers["image"].train, run.towers["text"].train) == ("last:1", None)
    assert run.towers["text"].encoder.name == "text/minilm"
    assert run.towers["text"].aligner.name == "linear"
    pairs, emoji = run.sources
    assert pairs.component.options["path"] == str(tmp_path / "data" / "pairs.jsonl"), "relative to the file"
    assert (pairs.name, pairs.component.name) == ("pairs", "")
    assert emoji.component.options == {"language": "no"}, "Norwegian is no truth value"
    assert run.tasks[0].component.options == {"temperature": 0.05}, "1e-3 without a dot is a number"
    assert (run.tasks[0].source, run.tasks[0].weight) == (0, 2.0)
    assert (run.tasks[1].towers, run.tasks[1].roles) == (("image", "text"), {"text": "query"})
    assert run.fit == {"epochs": 20.0, "batch_size": 64, "lr": {"image": 0.001, "*": 1}}
    assert (run.dim, run.held_out, run.out) == (128, 0.2, tmp_path / "space")


def test_the_short_form(tmp_path):
    run = read(tmp_path, "towers: {a: x/y, b: x/z}\nsource: samples/emoji\n")
    assert run.objective.name == "infonce" and run.tasks == () and run.out is None and run.held_out == 0.1
    assert [source.component.name for source in run.sources] == ["samples/emoji"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dim: 128", "dims: 128", r"run.yaml, line 11, dims: no such key 'dims'; did you mean dim"),
        ("encoder: image/timm", "encodr: image/timm", r"line 2, towers.image.encodr: .* did you mean encoder"),
        ("epochs: 20", "epoch: 20", r"line 10, fit.epoch: no such key 'epoch'; did you mean epochs"),
        ("objective: siglip", "objectiv: siglip", r"line 9, tasks\[1\].objectiv: .* did you mean objective"),
        ("dim: 128", "dim: wide", r"line 11, dim: a whole number is expected, got str 'wide'"),
        ("dim: 128", "dim: true", r"line 11, dim: a whole number is expected, got bool True"),
        ("dim: 128", "dim: 0", r"line 11, dim: 0 must be positive"),
        ("held_out: 0.2", "held_out: 1", r"line 12, held_out: 1.0 must be a share"),
        ("batch_size: 64", "batch_size: 6.5", r"fit.batch_size: a whole number is expected, got float 6.5"),
        ("batch_size: 64", "batch_size: 0", r"fit.batch_size: 0 must be positive"),
        ("image: 1e-3", "image: fast", r"fit.lr.image: a number is expected, got str 'fast'"),
        ("weight: 2", "weight: -1", r"line 8, tasks\[0\].weight: -1.0 must be positive"),
        ("source: pairs", "source: pares", r"tasks\[0\].source: no source 'pares'; did you mean pairs"),
        ("source: 1", "source: 2", r"line 9, tasks\[1\].source: 2: there are 2 sources, counted from 0"),
        ("towers: [image, text]", "towers: [image, txt]", r"tasks\[0\].towers: no tower 'txt'; did you mean text"),
        ("  text: text/minilm", "  text: 3", r"line 3, towers.text: a mapping or a text is expected, got int 3"),
        ("  text: text/minilm", "  text: {aligner: mlp}", r"towers.text: 'encoder' is missing"),
        ("  text: text/minilm", "  image: text/minilm", r"line 3: key 'image' is there twice"),
        ("source: samples/emoji, ", "", r"sources\[1\]: a source needs 'source'"),
        ("dim: 128", "objective: siglip", r"line 11, objective: give an objective to each of the tasks"),
        ("dim: 128", "dim: [128", r"not YAML: .* line 12"),
        ("dim: 128", "dim: !!python/object:os.system 1", r"not YAML: could not determine a constructor"),
        ("dim: 128", "? [a]\n: 1", r"a key must be a word"),
    ],
)
def test_faults_are_named_by_line_and_key(tmp_path, old, new, message):
    assert GOOD.count(old) == 1
    with pytest.raises(RunError, match=message):
        read(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a mapping of settings is expected, got NoneType None"),
        ("- a", "a mapping of settings is expected, got list"),
        ("sources: [x]", "no towers"),
        ("towers: {a: x/y}", "no sources"),
        ("towers: {a: x/y}\nsource: a\nsources: [b]", "give source or sources, not both"),
        ("towers: {a: x/y}\nsources: [b, b]", "two sources have one name"),
        ("towers: &t {a: *t}\nsource: b", "an alias|not YAML"),
    ],
)
def test_files_that_are_no_run(tmp_path, text, message):
    with pytest.raises(RunError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match=r"UTF-8 text is expected|not YAML"):
        read_yaml(tmp_path / "run.yaml")


def test_values_are_plain_data():
    values = {"1": 1, "-2": -2, "1e-3": 0.001, ".5": 0.5, "1.": 1.0, "true": True, "null": None, "": None, "~": None}
    values |= {"no": "no", "on": "on", "2024-01-01": "2024-01-01", "1:30": "1:30", "[1, a]": [1, "a"], "'1'": "1"}
    assert {text: scalar(text) for text in values} == values
    with pytest.raises(RunError, match="not a value"):
        scalar("[1")


def test_the_settings_are_those_of_fit():
    ours = {"space", "source", "objective", "tasks", "stages", "held_out", "out", "resume", "cache", "progress"}
    assert set(runfile.FIT) == set(inspect.signature(coembed.fit).parameters) - ours


def test_the_example_in_the_docs_reads(tmp_path):
    example = (runfile.__doc__ or "").split("key by key.\n")[1].split("Paths are relative")[0]
    run = read(tmp_path, inspect.cleandoc(example))
    assert list(run.towers) == ["image", "text"] and run.fit["lr"] == 0.001
    assert run.sources[0].component.options["path"] == str(Path(tmp_path, "pairs.jsonl"))
