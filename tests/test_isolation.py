"""A broken, a slow, a name-stealing and a future plugin side by side: who does not need them does not notice them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from coembed import PluginError, load
from coembed.cli import main

FAKES = Path(__file__).parent / "fakes"
FAULTY = {
    "import-error": "fake_import_error",
    "slow-import": "fake_slow_import",
    "thief": "fake_thief",
    "future-api": "fake_future_api",
}
COMMANDS = [
    ["--help"],
    ["plugins"],
    ["plugins", "--json"],
    ["info", "infonce"],
    ["info", "good/bytes"],
    ["embed", "good/bytes", "--text", "a cat", "--device", "cpu", "--json"],
]
# One interpreter for all commands, since each would pay for torch again; what is imported only grows.
PROGRAM = """
import contextlib, io, json, sys
from coembed.cli import main

steps = []
for argv in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = main(argv)
        except SystemExit as ended:
            code = ended.code or 0
    steps.append([code, out.getvalue(), err.getvalue(), sorted(sys.modules)])
import coembed

dim = coembed.load("good/bytes").encode(["a cat"]).dim
steps.append([0, str(dim), "", sorted(sys.modules)])
print(json.dumps(steps))
"""


def start(*fakes):
    """The program, with fake plugins installed beside what the project has."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(str(FAKES / name) for name in fakes), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(COMMANDS)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def steps():
    """What each command gave and had imported: without the faulty plugins, and with them."""
    running = [start("good"), start("good", *FAULTY)]
    found = []
    for process in running:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        found.append(json.loads(out))
    return found


@pytest.mark.parametrize("number", range(len(COMMANDS) + 1), ids=[" ".join(c[:2]) for c in COMMANDS] + ["load"])
def test_start_up_imports_what_it_did_without_them(steps, number):
    # A clash has no version, which the listing shows as a dash: rich looks up how wide one is.
    before, after = ([m for m in some[number][3] if not m.startswith("rich._unicode_data.")] for some in steps)
    assert set(after) - set(before) == set()
    assert len(after) == len(before)
    assert "fake_good" in after or number < COMMANDS.index(["info", "good/bytes"])
    assert not set(FAULTY.values()) & set(after)


@pytest.mark.parametrize("number", range(len(COMMANDS) + 1), ids=[" ".join(c[:2]) for c in COMMANDS] + ["load"])
def test_what_does_not_need_them_works_and_says_the_same(steps, number):
    (code, out, err, _), (code_after, out_after, err_after, _) = (some[number] for some in steps)
    assert code == code_after == 0
    if number == len(COMMANDS) or COMMANDS[number][0] != "plugins":
        assert out_after == out
        assert re.sub(r"[\d.]+", "0", err_after) == re.sub(r"[\d.]+", "0", err), "beside the times"


def test_the_listing_names_each_without_importing_it(steps):
    _, out, _, _ = steps[1][COMMANDS.index(["plugins", "--json"])]
    found = {row["name"]: row for row in json.loads(out)["plugins"]}
    assert (found["broken"]["status"], found["slow"]["status"]) == ("installed", "installed")
    assert found["future"]["status"] == "newer" and "made for coembed.v2" in found["future"]["error"]
    assert found["text"]["status"] == "clash" and "coembed-text and evil-text both claim" in found["text"]["error"]
    before = {row["name"] for row in json.loads(steps[0][COMMANDS.index(["plugins", "--json"])][1])["plugins"]}
    assert set(found) == before | {"broken", "slow", "future"}


def test_what_lists_components_leaves_the_faulty_out_and_goes_on(fakes, capsys):
    fakes("good", *FAULTY)
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = {row["name"] for row in found["components"]}
    assert {"good/bytes", "good/small", "slow/bytes", "infonce"} <= names
    assert {"broken", "text"} <= {row["plugin"] for row in found["failed"]}
    assert not any(name.startswith("text/") for name in names), "neither of two that claim a name is believed"


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("broken/a", "No module named 'a_module_that_is_not_there'"),
        ("text/minilm", "coembed-text and evil-text both claim 'text'"),
        ("future/a", "upgrade coembed"),
    ],
)
def test_who_asks_for_a_faulty_one_is_told_why(fakes, name, cause):
    fakes("good", *FAULTY)
    with pytest.raises(PluginError, match=cause):
        load(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load("good/bytes").encode(["a cat"]).dim == 16
