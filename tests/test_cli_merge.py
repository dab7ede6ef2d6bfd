"""`coembed merge` and `coembed grow`: what they write, print, refuse and document."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import torch

import coembed
from coembed import Space
from coembed.cli import main
from coembed.merging import merge

DOCS = Path(__file__).parents[1] / "docs" / "json.md"
WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]


def keys_of(command):
    """The keys that docs/json.md lists for a command, and those that are not always there."""
    text = DOCS.read_text(encoding="utf-8").split(f"## coembed {command}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, flags=re.M)
    return {key.removesuffix("[]") for key, _ in rows}, {key for key, meaning in rows if "only" in meaning}


@pytest.fixture
def spaces(fakes, tmp_path, monkeypatch):
    """A base and two spaces trained from it, in the working folder."""
    fakes("good")
    monkeypatch.chdir(tmp_path)
    base = Space({"a": "good/bytes", "b": "good/small"}, dim=6, aligner="linear", seed=0)
    base.save("base")
    for seed, name in enumerate(("one", "two")):
        space = copy.deepcopy(base)
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tower in space:
                weight = space[tower].aligner.map.weight
                weight.add_(torch.randn(weight.shape, generator=g), alpha=0.1)
        space.save(name)
    rows = [json.dumps({"a": word, "b": word.upper()}) for word in WORDS]
    Path("probe.jsonl").write_text("\n".join(rows))


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ([], {"how": "linear"}),
        (["--weights", "1,3"], {"how": "linear", "weights": [1, 3]}),
        (["--base", "base", "--how", "slerp", "--scale", "0.5"], {"how": "slerp", "scale": 0.5}),
        (["--base", "base", "--how", "ties", "--density", "0.4"], {"how": "ties", "density": 0.4}),
        (["--base", "base", "--how", "task-arithmetic"], {"how": "task-arithmetic"}),
    ],
)
def test_merge_writes_what_merge_gives(spaces, capsys, flags, settings):
    assert main(["merge", "one", "two", *flags, "--out", "merged"]) == 0
    assert f"2 spaces, {settings['how']} -> merged" in capsys.readouterr().err
    wanted = merge("base" if "--base" in flags else None, ["one", "two"], **settings)
    found = Space.load("merged")
    assert torch.equal(found.encode("a", WORDS).values, wanted.encode("a", WORDS).values)
    assert found.card["made"][0]["from"][-1]["space"] == "two"
    assert "of base base" in Path("merged", "README.md").read_text() or "--base" not in flags


def test_merge_learns_where_to_merge(spaces, capsys):
    argv = ["merge", "one", "two", "--base", "base", "--how", "self-position", "--source", "probe.jsonl"]
    argv += ["--map", "a=a", "--map", "b=b", "--steps", "10", "--batch-size", "8", "--metric", "MRR"]
    assert main([*argv, "--out", "merged", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["after"] < found["before"] and set(found["metrics"]) == {"average", "self-position"}
    listed, _ = keys_of("merge")
    assert set(found) == listed
    assert main([*argv, "--out", "merged"]) == 0
    assert "probe loss" in capsys.readouterr().err


def test_json_of_merge_is_documented(spaces, capsys):
    assert main(["merge", "one", "two", "--out", "merged", "--json"]) == 0
    listed, sometimes = keys_of("merge")
    assert set(json.loads(capsys.readouterr().out)) == listed - sometimes


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["one", "two", "--how", "slerp"], 2, "--how slerp needs --base"),
        (["one", "two", "--weights", "1"], 2, "--weights 1: 1 weights for 2 spaces"),
        (["one", "two", "--weights", "1,x"], 2, "numbers with commas"),
        (["one", "two", "--density", "0.5"], 2, "--density is not for --how linear"),
        (["one", "two", "--batch-size", "5"], 2, "--batch-size is not for --how linear"),
        (["one", "two", "--base", "base", "--how", "self-position"], 2, "needs a --source"),
        (["one", "two", "--source", "probe.jsonl"], 2, "the others take none"),
        (["one", "three"], 1, "three: no such folder; a space is made by"),
        (["merged"], 2, "is one of the spaces to merge"),
        (["one", "other"], 1, "other and one have different towers"),
    ],
)
def test_merge_says_what_is_wrong(spaces, capsys, argv, code, message):
    Space({"c": "good/bytes"}).save("other")
    Path("merged").mkdir()
    try:
        assert main(["merge", *argv, "--out", "merged"]) == code
    except SystemExit as stop:
        assert stop.code == code
    assert message in capsys.readouterr().err


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A saved space of one tower on the one transformer."""
    monkeypatch.chdir(tmp_path)
    encoder = coembed.load("text/transformer", dim=16, heads=2, layers=2, dropout=0.0)
    space = Space({"text": encoder}, dim=8, aligner="linear", seed=0)
    space.save("small")
    return space


def test_grow_keeps_the_vectors_and_prints_what_is_documented(small, capsys):
    assert main(["grow", "small", "--tower", "text", "--width", "32", "--out", "large", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == keys_of("grow")[0]
    assert (found["width"], found["depth"], found["hidden"]) == (32, 2, 128) and found["error"] < 1e-5
    assert found["parameters"] > 2 * found["parameters_before"]
    large = Space.load("large")
    torch.testing.assert_close(large.encode("text", WORDS).values, small.encode("text", WORDS).values)
    assert large.card["made"][0]["from"][0]["space"] == "small"


@pytest.mark.filterwarnings("always::coembed.CoembedWarning")
def test_grow_warns_where_vectors_change(small, capsys):
    assert main(["grow", "small", "--tower", "text", "--depth", "3", "--method", "stack", "--out", "deep"]) == 0
    told = capsys.readouterr().err
    assert "coembed: warning: text/transformer grown to width 16 and 3 blocks by stack does not compute" in told
    assert Space.load("deep")["text"].encoder.layers == 3


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--tower", "text"], 2, "nothing to do: give --width, --depth or --hidden"),
        (["--tower", "text", "--width", "30"], 1, "must be a multiple of 8; 32 would be exact"),
        (["--tower", "txt", "--width", "32"], 1, "no tower 'txt'; did you mean 'text'?"),
        (["--tower", "text", "--width", "32", "--method", "stack"], 1, "adds blocks only"),
        (["--tower", "text", "--width", "32", "--out", "small"], 2, "is the space itself"),
    ],
)
def test_grow_says_what_is_wrong(small, capsys, argv, code, message):
    try:
        assert main(["grow", "small", "--out", "large", *argv]) == code
    except SystemExit as stop:
        assert stop.code == code
    assert message in capsys.readouterr().err
    assert not Path("large").exists()
