"""coembed-bench: the shape of its JSON, and that it does not conclude from a busy machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from coembed_bench import BENCHES, cli, machine, startup
from coembed_bench.report import Aim, Failed, Report

ROOT = Path(__file__).parents[1]


def report(load: float | None, value: float | None = 3.0) -> Report:
    rows = [
        {"system": "ours", "case": "a", "ms": 3.0, "note": ""},
        {"system": "peer", "case": "b", "ms": None, "note": "x"},
    ]
    return Report("demo", rows, [Aim("a", value, 5.0)], load, ("coembed", "no-such-package"), {"ms": "ms"})


def test_json_has_the_promised_shape_and_survives_a_round_trip():
    data = json.loads(json.dumps(report(0.0).to_json(), allow_nan=False))
    assert list(data) == ["bench", "machine", "versions", "rows", "aims"]
    assert {"processor", "cores", "memory_gib", "load", "busy"} <= set(data["machine"])
    assert data["versions"]["no-such-package"] is None and data["versions"]["coembed"]
    assert all({"system", "case"} <= set(row) for row in data["rows"])
    assert data["aims"] == [{"name": "a", "value": 3.0, "aim": 5.0, "least": False, "met": True}]


@pytest.mark.parametrize(
    ("load", "value", "met"),
    [
        (0.0, 5.0, True),
        (0.0, 5.1, False),
        (1e6, 3.0, None),
        (0.0, None, None),
        (0.0, float("nan"), None),
        (None, 3.0, True),
    ],
)
def test_an_aim_is_judged_only_when_it_can_be(load, value, met):
    [aim] = report(load, value).to_json()["aims"]
    assert aim["met"] is met


def test_a_load_above_the_cores_is_no_conclusion(capsys, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 4)
    assert not machine.busy(4.3) and machine.busy(4.5)
    report(4.5).show()
    shown = capsys.readouterr().out
    assert "no conclusion" in shown and "4 cores" in shown
    report(4.0).show()
    assert "no conclusion" not in capsys.readouterr().out


def test_the_load_is_the_highest_seen(monkeypatch):
    loads = iter([9.0, 0.1])
    monkeypatch.setattr(startup, "load_average", lambda: next(loads))
    monkeypatch.setattr(startup, "cpu_ms", lambda command: 1.0)
    assert startup.run(quick=True).load == 9.0


def test_the_table_names_every_row_and_unit(capsys):
    report(0.0).show()
    shown = capsys.readouterr().out
    assert "ms (ms)" in shown and "ours" in shown and "peer" in shown and "no-such-package missing" in shown


def test_cpu_time_covers_the_child_and_what_the_child_starts():
    """A lower bound that holds by construction on any machine: the child does not stop before it has used it."""
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    assert startup.cpu_ms([sys.executable, "-c", burn]) >= 200
    assert startup.cpu_ms([sys.executable, "-c", nested]) >= 200


def test_a_command_that_fails_says_why():
    with pytest.raises(Failed, match="ZeroDivisionError"):
        startup.cpu_ms([sys.executable, "-c", "1 / 0"])


def test_startup_rows_with_and_without_the_peer(monkeypatch):
    monkeypatch.setattr(startup, "cpu_ms", lambda command: 7.0)
    monkeypatch.setattr(startup, "versions", lambda names: dict.fromkeys(names))
    data = startup.run(quick=True).to_json()
    assert [row["case"] for row in data["rows"]] == [
        "-c pass",
        "import coembed",
        "coembed --help",
        "coembed plugins",
        "import sentence_transformers",
    ]
    assert data["rows"][-1]["cpu_min"] is None and "not installed" in data["rows"][-1]["note"]
    assert [aim["aim"] for aim in data["aims"]] == [80.0, 100.0]

    def broken_peer(command):
        if "sentence_transformers" in command[-1]:
            raise Failed("libtorch is missing")
        return 7.0

    monkeypatch.setattr(startup, "versions", lambda names: dict.fromkeys(names, "1.0"))
    monkeypatch.setattr(startup, "cpu_ms", broken_peer)
    assert "libtorch" in startup.run(quick=True).rows[-1]["note"]


def test_commands(capsys, monkeypatch):
    monkeypatch.setattr(startup, "cpu_ms", lambda command: 7.0)
    assert cli.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BENCHES)
    monkeypatch.setattr(cli, "BENCHES", {"missing": ("coembed_bench.loss", ""), "startup": BENCHES["startup"]})
    monkeypatch.setattr("coembed_bench.loss.run", lambda quick: (_ for _ in ()).throw(Failed("no such data")))
    assert cli.main(["all", "--json"]) == 1
    captured = capsys.readouterr()
    assert [json.loads(line)["bench"] for line in captured.out.splitlines()] == ["startup"]
    assert "missing: no such data" in captured.err, "what one lacks does not keep the others from being taken"
    for wrong in ([], ["nonsense"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(wrong)
        assert stop.value.code == 2
    monkeypatch.setattr(startup, "cpu_ms", lambda command: (_ for _ in ()).throw(Failed("it broke")))
    assert cli.main(["startup"]) == 1
    assert "it broke" in capsys.readouterr().err


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from coembed_bench.cli import main; main(['--list']);"
        "print(sorted({'torch', 'numpy', 'transformers', 'rich', 'yaml'} & set(sys.modules)))"
    )
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert out.splitlines()[-1] == "[]"


def test_packaging_names_the_entry_points():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["coembed.v1"] == {"bench": "coembed_bench"}
    assert project["scripts"] == {"coembed-bench": "coembed_bench.cli:main"}
    assert any(need.startswith("sentence-transformers") for need in project["optional-dependencies"]["peers"])
