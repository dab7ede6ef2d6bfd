"""`coembed new`: names are checked, nothing is overwritten, and what it writes passes the kit as written."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import coembed
from coembed import testing
from coembed.cli import main
from coembed.scaffold import FILES, Scaffold, ScaffoldError, items_of
from coembed.testing import toy_encoder

from .environment import Environment

CASES = {"haiku": "text", "peptide-ms2": "peptide-ms2"}  # a modality that exists, and one that does not


def scaffold(name="haiku", modality="text", package=None, items=None):
    return Scaffold(name, modality, package or f"coembed-{name}", items or items_of(modality))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"name": "Peptide"}, "name 'Peptide': use lower-case letters"),
        ({"name": "2d"}, "a letter first"),
        ({"name": "a/b"}, "name 'a/b'"),
        ({"name": "../up"}, "name '../up'"),
        ({"name": "a--b"}, "single '-'"),
        ({"name": ""}, "name ''"),
        ({"modality": "Mass Spectra"}, "modality 'Mass Spectra'"),
        ({"name": "core"}, "'core' is the core's own"),
        ({"name": "text"}, None),
        ({"name": "text", "package": "my-text"}, "'text' is reserved for coembed-text by registry.yaml"),
        ({"package": "coembed haiku"}, "package 'coembed haiku'"),
        ({"package": "json"}, "imported as json, which Python or coembed uses"),
        ({"package": "coembed"}, "imported as coembed"),
        ({"package": "class"}, "imported as class"),
        ({"package": "torch"}, "'torch' is installed here and does not bring 'haiku'"),
        ({"package": "coembed-text"}, "'coembed-text' is installed here and does not bring 'haiku'"),
        ({"items": "pictures"}, "items 'pictures': use strings or rows"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_the_reason(facts, message):
    if message is None:  # its owner may begin anew
        assert scaffold(**facts).package == "coembed-text"
        return
    with pytest.raises(ScaffoldError) as raised:
        scaffold(**facts)
    assert message in str(raised.value)


def test_a_name_that_an_installed_plugin_has_is_refused(fakes):
    fakes("good")
    with pytest.raises(ScaffoldError, match="'good' is taken by coembed-good, which is installed"):
        scaffold("good", package="coembed-better")
    assert scaffold("good").module == "coembed_good", "the package itself may be written anew"


def test_nothing_is_overwritten(tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep me")
    for out in (mine, mine / "notes.txt"):
        assert main(["new", "haiku", "--modality", "text", "--out", str(out)]) == 1
        assert f"{out} exists and is not an empty folder" in capsys.readouterr().err
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
    assert (mine / "notes.txt").read_text() == "keep me"


def test_the_command_lists_what_it_wrote_and_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "peptide-ms2", "--modality", "peptide-ms2"]) == 0
    captured = capsys.readouterr()
    written = {path.as_posix() for path in Path("coembed-peptide-ms2").rglob("*") if path.is_file()}
    assert set(captured.out.split()) == written and len(written) == len(FILES)
    assert "  pip install -e './coembed-peptide-ms2[test]'\n  coembed check peptide-ms2\n" in captured.err
    assert "edit coembed-peptide-ms2/coembed_peptide_ms2/model.py" in captured.err
    project = tomllib.loads(Path("coembed-peptide-ms2", "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["coembed.v1"] == {"peptide-ms2": "coembed_peptide_ms2"}
    assert project["dependencies"] == ["coembed>=0.1"], "no upper bound, no pin of torch"


def test_what_is_written_keeps_the_house_style(tmp_path):
    for name, modality in CASES.items():
        scaffold(name, modality).write(tmp_path / name)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert "$" not in path.read_text(), f"{path} holds a placeholder"
    rules = ["--select", "E,F,I,UP,B,TID,RUF,D1", "--ignore", "D105,D107"]
    for command in (["check", *rules], ["format", "--check"]):
        line = [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "120", str(tmp_path)]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def installed(fakes, tmp_path, monkeypatch):
    """installed("haiku"): a written package on the path, with the facts that an installer would have left."""
    names = []

    def install(name, **facts):
        plan = scaffold(name, CASES[name], **facts)
        plan.write(tmp_path / name)
        info = tmp_path / name / f"{plan.module}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {plan.package}\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text(f"[coembed.v1]\n{name} = {plan.module}\n")
        monkeypatch.syspath_prepend(str(tmp_path / name))
        fakes()
        names.append(plan.module)
        return plan

    yield install
    for module in [module for module in sys.modules if module.split(".")[0] in names]:
        del sys.modules[module]


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_passes_the_kit(installed, name):
    installed(name)
    results = [testing.run(case) for case in testing.cases(name)]
    assert len(results) > 10
    assert {f"{result.case.id}: {result.message}" for result in results if result.status == "failed"} == set()


@pytest.mark.parametrize(("name", "items"), [("haiku", None), ("peptide-ms2", None), ("peptide-ms2", "strings")])
def test_what_is_written_trains(installed, name, items):
    installed(name, items=items)
    encoder = coembed.load(f"{name}/transformer")
    torch.manual_seed(0)
    towers = {"mine": coembed.Tower(encoder, "linear", dim=8, train="all"), "other": toy_encoder(dim=8)}
    space = coembed.Space(towers, dim=8)
    pairs = coembed.Records.pairs(mine=encoder.samples(), other=["one", "two", "three"])
    losses = coembed.fit(space, pairs, steps=20, batch_size=3, cache=False).losses
    assert losses[-1] < losses[0] / 2


def test_rows_refuse_what_is_no_row_and_a_prompt(installed, tmp_path):
    installed("peptide-ms2")
    encoder = coembed.load("peptide-ms2/transformer")
    for bad in ("text", [], [[1.0]], [[1.0, 2.0, 3.0]], [[1.0, float("nan")]], [1.0, 2.0], None, [[[1.0, 2.0]]]):
        with pytest.raises(coembed.BadItem, match=r"item 1: .* expected one or more rows of 2 finite numbers"):
            encoder.encode([[[1.0, 2.0]], bad])
    with pytest.raises(ValueError, match="takes no prompt"):
        encoder.encode(encoder.samples(), prompt="query: ")
    (tmp_path / "peaks.csv").write_text("100.5,1\n\n200,0.25\n")
    assert encoder.read(tmp_path / "peaks.csv") == [[[100.5, 1.0], [200.0, 0.25]]]


def test_strings_refuse_what_is_blank(installed, tmp_path):
    installed("haiku")
    encoder = coembed.load("haiku/transformer")
    for bad in ("", "  \n", 3, b"bytes"):
        with pytest.raises(coembed.BadItem, match=r"item 1: .* expected a string that is not blank"):
            encoder.encode(["an old silent pond", bad])
    (tmp_path / "one.txt").write_text("an old silent pond\na frog jumps\n")
    assert encoder.read(tmp_path / "one.txt") == ["an old silent pond\na frog jumps"]


@pytest.mark.slow
def test_installed_with_pip_it_passes_its_own_tests_and_types(tmp_path):
    """Editable and as a wheel, in an environment of its own: pip, `coembed check`, its own pytest, mypy."""
    env = Environment(tmp_path / "env", ours=True)
    for name, modality in CASES.items():
        env.run("coembed", "new", name, "--modality", modality, cwd=tmp_path)
    env.run("pip", "install", "-e", "./coembed-haiku[test]", "./coembed-peptide-ms2[test]", cwd=tmp_path)
    assert (env.site / "coembed_peptide_ms2" / "py.typed").exists()
    for name in CASES:
        assert "ok, 0 failed, " in env.run("coembed", "check", name, cwd=tmp_path)
        # the folder of the tests: from the package's own, Python would import the source rather than what pip put there
        folder = tmp_path / f"coembed-{name}" / "tests"
        assert " passed" in env.run("python", "-P", "-m", "pytest", "-q", "--color=no", cwd=folder)
    modules = ["coembed_haiku.model", "coembed_peptide_ms2.model"]
    assert " passed" in env.run(
        "python", "-P", "-m", "pytest", "-q", "--doctest-modules", "--pyargs", *modules, cwd=tmp_path
    )
    sources = [tmp_path / f"coembed-{name}" / f"coembed_{name.replace('-', '_')}" for name in CASES]
    env.run("python", "-m", "mypy", "--strict", "--ignore-missing-imports", *sources, cwd=tmp_path)
