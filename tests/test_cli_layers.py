"""`--layer` of `coembed embed` and `coembed eval`: what encode gives after that block, and one job a layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import coembed
from coembed import Records, Space, Tower
from coembed.cli import main, vectors
from coembed.evaluation import evaluate

ENCODER = ["text/transformer", "--set", "dim=16", "--set", "layers=3", "--set", "heads=2"]
WORDS = ["red cat", "green dog", "blue fish", "a small sun", "big tree", "rock", "the sea", "star"]
PAIRS = Records.pairs(a=WORDS, b=[word[::-1] for word in WORDS])


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"id": r.id, "a": r["a"], "b": r["b"]} for r in PAIRS]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def status(*argv):
    """The exit code, of a usage error too."""
    try:
        return main(list(argv))
    except SystemExit as error:
        return error.code


def embed(out, *more):
    given = ["--source", "pairs.jsonl", "--column", "a", "--shard", "4", "--out", out]
    return status("embed", *ENCODER, *given, *more)


def values(out):
    return torch.cat([rows.values for _, rows, _ in vectors.read(out)])


def wanted(layer):
    return coembed.load("text/transformer", dim=16, layers=3, heads=2).encode(WORDS, layer=layer).values


def test_embed_stops_after_a_block():
    assert embed("one", "--layer", "1") == 0 and embed("whole") == 0
    assert torch.equal(values("one"), wanted(1)) and torch.equal(values("whole"), wanted(None))
    assert not torch.equal(values("one"), values("whole"))
    assert embed("two", "--layer", "1", "--workers", "2") == 0
    assert torch.equal(values("two"), values("one"))


def test_embed_prints_the_vectors_of_a_block(capsys):
    argv = ["embed", *ENCODER, *(word for text in WORDS for word in ("--text", text)), "--json", "--layer", "2"]
    assert main(argv) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert torch.equal(torch.tensor([row["vectors"] for row in rows]), wanted(2))


def test_a_job_of_another_layer_is_not_gone_on_with(capsys):
    assert embed("v", "--layer", "1") == 0
    next(Path("v").glob("vectors-00001*")).unlink()  # it was stopped halfway
    before = values("v")
    for more, said in ((["--layer", "2"], "layer was 1, is 2"), ([], "layer was 1, is None")):
        assert embed("v", *more) == 1
        assert said in capsys.readouterr().err and torch.equal(values("v"), before)
    assert embed("v", "--layer", "1") == 0
    assert torch.equal(values("v"), wanted(1))


def test_a_job_from_before_there_were_layers_goes_on():
    assert embed("v") == 0
    setting = json.loads(Path("v/job.json").read_text())
    assert setting.pop("layer") is None
    Path("v/job.json").write_text(json.dumps(setting))
    assert embed("v") == 0
    assert embed("v", "--layer", "1") == 1


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--layer", "4"], 1, "layer 4 asked, but it has early exits 1..3"),
        (["--layer", "1", "--store", "kept"], 2, "leave out --store or --layer 1"),
        (["--dim", "99"], 1, "99"),
        (["--role", "nobody"], 1, "nobody"),
    ],
)
def test_what_an_encoder_lacks_is_said_before_the_folder_is_taken(more, code, said, capsys):
    assert embed("v", *more) == code
    assert said in capsys.readouterr().err and not Path("v").exists()


def space():
    torch.manual_seed(0)
    towers = {}
    for i, (name, layers) in enumerate((("a", 3), ("b", 2))):
        encoder = coembed.load("text/transformer", dim=16, layers=layers, heads=2)
        towers[name] = Tower(encoder, "linear", dim=8, seed=i)
    model = Space(towers)
    model.save("space")
    return Space.load("space")


def measured(capsys, *more):
    assert main(["eval", "space", "--source", "pairs.jsonl", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)["figures"]


def test_eval_measures_after_a_block(capsys):
    model = space()

    def plain(layer):
        return json.loads(json.dumps(evaluate(model, PAIRS, layer=layer)))

    assert measured(capsys) == plain(None)
    assert measured(capsys, "--layer", "1") == plain(1) != plain(None)
    assert measured(capsys, "--layer", "a=2", "--layer", "b=1") == plain({"a": 2, "b": 1})
    assert measured(capsys, "--layer", "b=1") == plain({"b": 1}) != plain({"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--layer", "9"], 1, "layer 9 asked, but it has early exits 1..3"),
        (["--layer", "c=1"], 1, "layer names 'c'"),
        (["--layer", "x"], 2, "'x' is neither K nor TOWER=K"),
        (["--layer", "1", "--layer", "a=2"], 2, "one K for all towers, or TOWER=K"),
        (["--layer", "1", "--eval", "probe"], 2, "are for the eval retrieval"),
    ],
)
def test_a_layer_that_cannot_be_is_named(more, code, said, capsys):
    space()
    assert status("eval", "space", "--source", "pairs.jsonl", *more) == code
    assert said in capsys.readouterr().err
