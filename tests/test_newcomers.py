"""What newcomers get wrong: every message names what was given and what to write instead."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import coembed
from coembed import Contrast, PluginError, Record, Records, Space, Tower, evaluate, fit
from coembed.testing import ToyEncoder, toy_encoder

PAIRS = Records.pairs(a=["x", "y", "z"], text=["1", "2", "3"])
ROWS = [{"a": "x", "text": "1"}, {"a": "y", "text": "2"}]
HOW = r"Records\.pairs\(image=\[…\], text=\[…\]\)"


def space(**options):
    return Space({name: toy_encoder(dim=8, seed=i) for i, name in enumerate(("a", "text"))}, dim=4, **options)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder with pairs.jsonl."""
    monkeypatch.chdir(tmp_path)
    rows = [{"a": word, "text": word[::-1]} for word in ("one", "two", "three", "four")]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_a_path_or_a_list_of_records_is_a_source(tmp_path):
    assert len(fit(space(), "pairs.jsonl", steps=1).losses) == 1
    assert len(fit(space(), tmp_path / "pairs.jsonl", steps=1, held_out=list(PAIRS)).figures) == 2
    assert evaluate(space(), "pairs.jsonl")["a->text"]["n"] == 4
    assert evaluate(space(), list(PAIRS))["a->text"]["n"] == 3
    assert len(Contrast("pairs.jsonl", ("a", "text")).source) == 4
    with pytest.raises(FileNotFoundError, match=r"pares\.jsonl: no such file"):
        fit(space(), "pares.jsonl")
    with pytest.raises(PluginError, match="'jsnl'; did you mean jsonl"):
        fit(space(), "jsnl")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ROWS, r"got a list whose element 0 is dict \{'a': 'x', 'text': '1'\}: " + HOW),
        ([*PAIRS, "x"], "element 3 is str 'x'"),
        ({"a": ["x"], "text": ["1"]}, "got a dict: " + HOW),
        (3, "got a int"),
        (Contrast(PAIRS, ("a", "text")), r"got a Contrast, which is a task: fit\(space, tasks=\[task\]\)"),
    ],
)
def test_what_is_no_source_says_how_to_make_one(given, message):
    for use in (
        lambda: fit(space(), given),
        lambda: evaluate(space(), given),
        lambda: fit(space(), PAIRS, held_out=given),
        lambda: Contrast(given, ("a", "text")),
    ):
        with pytest.raises(TypeError, match=message):
            use()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Records(ROWS),
            TypeError,
            r"element 0 is dict .*not a Record: Record\(\{'text': …\}, id='0'\).*" + HOW,
        ),
        (lambda: Records.pairs(), ValueError, r"no columns: give a list for each tower, such as image=\[…\]"),
        (lambda: Records.pairs(a="abc", b="xyz"), TypeError, r"Records.pairs, a: .* got one str; wrap it: \['abc'\]"),
        (lambda: Records.pairs(a=["x"], b=[]), ValueError, r"columns differ in length: \{'a': 1, 'b': 0\}"),
        (lambda: coembed.load("jsonl"), TypeError, r"jsonl needs path: load\('jsonl', path=…\); it takes path, towers"),
        (lambda: coembed.load("jsonl", file="p"), TypeError, "jsonl takes no argument 'file'; did you mean files"),
        (lambda: coembed.load("infonce", temp=1), TypeError, "infonce takes no argument 'temp'; it takes temperature"),
        (lambda: coembed.load("infonce", temperatur=1), TypeError, "did you mean temperature"),
        (lambda: Space([toy_encoder()]), TypeError, r"takes towers by name, got a list: Space\(\{'text':"),
        (lambda: Space("space"), TypeError, "takes towers by name, got a str"),
        (lambda: Space({}), ValueError, r"at least one tower: Space\(\{'text':"),
        (lambda: Space({"a": 3}), TypeError, "tower a: an encoder, its name or a Tower is expected, got int 3"),
        (lambda: Space({"a": ToyEncoder}), TypeError, "got the class ToyEncoder: call it, or give its name"),
        (lambda: Tower(3), TypeError, "an Encoder or the name of one, got int 3"),
        (lambda: Tower(toy_encoder(), train=True), ValueError, "train True: use 'none', 'last:k'"),
        (lambda: Tower(toy_encoder(), "linea"), PluginError, "did you mean linear"),
        (lambda: space(device="gpu"), ValueError, "device 'gpu': use 'cpu', 'cuda'"),
        (lambda: space()["txt"], KeyError, "no tower 'txt'; did you mean 'text'"),
        (lambda: space()["z"], KeyError, "no tower 'z'; its towers: a, text"),
        (lambda: space().classify("a", ["x"], "cat"), TypeError, r"classify, labels: .* wrap it: \['cat'\]"),
    ],
)
def test_making_things(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("one string", r"got one str; wrap it: \['one string'\]"),
        (b"bytes", "got one bytes; wrap it"),
        (3, r"got int: wrap it: \[it\]"),
        (None, "got NoneType"),
        (torch.zeros(2, 3), r"got Tensor of shape \(2, 3\): \[it\] is one item, list\(it\) is one item a row"),
        (np.zeros(16000), r"got ndarray of shape \(16000,\): \[it\] is one item"),
        ((word for word in "ab"), r"got generator: list\(it\) makes one"),
        ({"a", "b"}, "got set: give a list, in the order"),
        ({"a": "b"}, "got dict: give a list"),
    ],
)
def test_items_are_a_list(items, message):
    for use in (space().encode, space().index):
        with pytest.raises(TypeError, match=message):
            use("text", items)
    with pytest.raises(TypeError, match=message):
        toy_encoder().encode(items)


def test_what_is_like_a_list_is_one():
    wanted = toy_encoder().encode(["a", "b"]).values
    for items in (("a", "b"), np.array(["a", "b"]), np.array(["a", "b"], dtype=object)):
        assert torch.equal(toy_encoder().encode(items).values, wanted)


def test_a_width_that_was_not_trained_is_refused_before_the_long_work(monkeypatch):
    encoder, model = toy_encoder(dim=8), space()
    monkeypatch.setattr(ToyEncoder, "collate", lambda *args: pytest.fail("items were read"))
    for use in (lambda: encoder.encode(["x"], dim=3), lambda: model.encode("a", ["x"], dim=3)):
        with pytest.raises(ValueError, match=r"dim 3: .* \(declared: none\); truncate\(3, force=True\) cuts full ones"):
            use()
    with pytest.raises(ValueError, match="dim 9: the vectors have 8 dimensions"):
        encoder.encode(["x"], dim=9)
    monkeypatch.undo()
    assert encoder.encode(["x"]).truncate(3, force=True).dim == 3, "the way that the message names"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"tasks": Contrast(PAIRS, ("a", "text"))}, TypeError, r"tasks is one Contrast: .*tasks=\[task\]"),
        ({"tasks": []}, ValueError, "tasks is empty"),
        ({"tasks": [PAIRS]}, TypeError, "element 0 of tasks is a Records: a Contrast or Pretext"),
        ({"source": PAIRS, "tasks": [Contrast(PAIRS, ("a", "text"))]}, ValueError, "both a source and tasks"),
        ({}, ValueError, "needs a source of records, or tasks"),
        ({"source": Records([])}, ValueError, "records have nothing, towers are a, text"),
        ({"source": PAIRS, "batch_size": 1}, ValueError, "batch_size is 1: .* needs at least 2"),
        ({"source": PAIRS, "batch_size": 0}, ValueError, "batch_size is 0: a whole number of at least 1"),
        ({"source": PAIRS, "batch_size": 2.5}, ValueError, "batch_size is 2.5: a whole number"),
        ({"source": PAIRS, "micro_batch": 0}, ValueError, "micro_batch is 0"),
        ({"source": Records.pairs(a=["x"], text=["y"])}, ValueError, "one usable record among 1: .* at least 2"),
        ({"source": PAIRS, "steps": 0}, ValueError, "steps is 0"),
        ({"source": PAIRS, "epochs": -1}, ValueError, "epochs is -1: a number above 0"),
        ({"source": PAIRS, "warmup": 100}, ValueError, "warmup is 100: a number of at least 0 and at most 1"),
        ({"source": PAIRS, "clip": None}, ValueError, "clip is None: a number of at least 0"),
        ({"source": PAIRS, "eval_every": 0}, ValueError, "eval_every is 0"),
        ({"source": PAIRS, "checkpoint_every": 0}, ValueError, "checkpoint_every is 0"),
        ({"source": PAIRS, "lr": {"txt": 1e-3, "*": 1}}, ValueError, "lr names txt.*did you mean 'text'"),
        ({"source": PAIRS, "objective": "infonc"}, PluginError, "did you mean infonce"),
        ({"source": PAIRS, "objective": coembed.Matryoshka}, TypeError, "got the class Matryoshka: call it"),
    ],
)
def test_fit_looks_before_the_long_work(given, error, message):
    with pytest.raises(error, match=message):
        fit(space(), **{"steps": 1, **given})


def test_fit_takes_a_space():
    with pytest.raises(TypeError, match=r"a Space is expected, got a dict: Space\(\{"):
        fit({"a": toy_encoder()}, PAIRS)


def test_a_pretext_alone_may_have_batches_of_one():
    """Only a contrast needs others to tell apart."""
    from .test_train import NextByte

    assert fit(space(train="all"), tasks=[NextByte(Records.pairs(a=["one", "two"]), "a")], steps=1, batch_size=1).losses


def test_a_seed_decides_fresh_heads_by_the_towers_names():
    def heads(names, seed):
        built = Space({n: toy_encoder(dim=8) for n in names}, dim=4, aligner="linear", seed=seed)
        return {name: built[name].aligner.map.weight for name in names}

    torch.manual_seed(0)
    one, before = heads("ab", 3), torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(before, torch.rand(1)), "the caller's generator is left alone"
    assert not torch.equal(one["a"], one["b"])
    assert torch.equal(one["b"], heads("bca", 3)["b"]), "one tower more changes no other"
    assert not torch.equal(one["a"], heads("ab", 4)["a"])
    torch.manual_seed(1)
    free = heads("ab", None)
    assert not torch.equal(free["a"], heads("ab", None)["a"])


def test_a_towers_own_seed():
    def head(seed):
        return Tower(toy_encoder(dim=8), "linear", dim=4, seed=seed).aligner.map.weight

    assert torch.equal(head(1), head(1)) and not torch.equal(head(1), head(2))


def test_a_record_without_an_id_or_with_a_bare_item_is_named():
    with pytest.raises(TypeError, match="id"):
        Record({"a": 1})
