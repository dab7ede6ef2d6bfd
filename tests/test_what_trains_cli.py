"""Layer decay, averages, checkpointing and compile at the command line and in run files."""

from __future__ import annotations

import pytest

from coembed.cli import align, command_parser, training
from coembed.runfile import read
from coembed.settings import RunError

TOWERS = ["--tower", "a=x/y", "--tower", "b=x/z", "--source", "pairs.jsonl", "--out", "space"]
RUN = "towers: {a: x/y, b: x/z}\nsource: {path: pairs.jsonl}\nfit: {%s}\n"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").touch()


def flags(*more):
    return align.from_flags(command_parser("align").parse_args([*TOWERS, *more]))


def test_flags_and_a_run_file_say_the_same(tmp_path):
    run = flags("--layer-decay", "0.9", "--ema", "0.99", "--checkpointing", "--compile")
    assert run.fit == {"layer_decay": 0.9, "ema": 0.99, "checkpointing": True, "compile": True}
    path = tmp_path / "run.yaml"
    path.write_text(RUN % "layer_decay: 0.9, ema: 0.99, checkpointing: true, compile: true")
    assert read(path).fit == run.fit
    path.write_text(RUN % "checkpointing: false, compile: aot_eager")
    assert read(path).fit == {"checkpointing": False, "compile": "aot_eager"}
    assert flags().fit == {}, "a flag that is not given says nothing over a run file"


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        ("checkpointing: 1", "fit.checkpointing: true or false is expected, got int 1"),
        ("compile: 2", "fit.compile: true or false or a text is expected, got int 2"),
        ("ema: yes", "fit.ema: a number is expected, got str 'yes'"),
        ("layer_decay: 0", "fit.layer_decay: 0.0 must be positive"),
        ("layer_deca: 0.9", "no such key 'layer_deca'; did you mean layer_decay"),
    ],
)
def test_faults_are_named(tmp_path, fit, message):
    path = tmp_path / "run.yaml"
    path.write_text(RUN % fit)
    with pytest.raises(RunError, match=message):
        read(path)


def test_a_run_may_go_on_with_checkpointing_since_it_changes_no_bit():
    assert training._facts(flags("--checkpointing")) == training._facts(flags())
    assert training._facts(flags("--ema", "0.9")) != training._facts(flags())
