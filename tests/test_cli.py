"""The command line: dispatch, what it imports, and the commands that list and inspect."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from coembed.cli import COMMANDS, main, output

HEAVY = "torch numpy transformers pydantic yaml rich pluggy"


def fresh(code, *arguments):
    """A Python of its own; what it prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_help_and_every_parser_import_nothing_heavy():
    code = f"""
import importlib.util, sys
from coembed.cli import COMMANDS, command_parser, main
main([])
for name, (module, _) in COMMANDS.items():
    if importlib.util.find_spec(module):
        command_parser(name).format_help()
print("HEAVY", [name for name in "{HEAVY}".split() if name in sys.modules])
"""
    assert fresh(code).splitlines()[-1] == "HEAVY []"


def test_listing_plugins_loads_none(fakes, monkeypatch, capsys):
    fakes("good", "import-error", "exits", "heavy-import")
    assert main(["plugins", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["plugins"]}
    assert rows["good"] == {
        "name": "good",
        "package": "coembed-good",
        "version": "1.0",
        "status": "installed",
        "error": None,
    }
    assert rows["broken"]["status"] == rows["exits"]["status"] == "installed"
    assert not {"fake_good", "fake_import_error", "fake_heavy_import"} & set(sys.modules)


def test_version_help_and_no_command(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("coembed 0.")
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["plugns"], "no command 'plugns'; did you mean plugins?"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["info"], "the following arguments are required: NAME"),
        (["list", "--kind", "encodr"], "invalid choice: 'encodr'"),
        (["list", "--mod", "text"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_two_lines_and_code_2(argv, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert message in captured.err and "--help" in captured.err
    assert captured.out == ""


def test_the_console_entry_by_a_process_of_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "coembed.cli", "info", "infonec"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "coembed info: coembed has no component 'infonec'; did you mean infonce?\n"


@pytest.mark.parametrize("argv", [["info", "infonce"], ["list", "--json"]], ids=["short", "long"])
def test_a_reader_that_goes_away_is_no_error(argv):
    command = [sys.executable, "-m", "coembed.cli", *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_list_filters_and_leaves_out_what_fails(fakes, capsys):
    fakes("good", "raises-in-hook", "other")
    assert main(["list", "--modality", "text"]) == 0
    captured = capsys.readouterr()
    assert "good/bytes" in captured.out and "other/bytes" in captured.out and "infonce" not in captured.out
    assert "plugin raises (coembed-raises) is left out: " in captured.err
    assert main(["list", "--kind", "objective", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"infonce", "siglip", "triplet"} <= {row["name"] for row in found["components"]}
    assert {row["kind"] for row in found["components"]} == {"objective"}
    assert [row["plugin"] for row in found["failed"]] == ["raises"]


def test_list_of_nothing_says_so(fakes, capsys):
    fakes("good")
    assert main(["list", "--modality", "smell"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and "no component of modality smell; --all also lists" in captured.err


def test_list_all_adds_what_is_known_with_the_command_to_install_it(fakes, monkeypatch, capsys):
    fakes("good")
    entry = {"modality": "rna", "dim": 256, "output": "vector", "license": "MIT", "weights": None}
    known = {"rna": {"package": "coembed-rna", "tier": "core", "components": {"encoder": {"rna/kmer": entry}}}}
    monkeypatch.setattr("coembed.registry.known", lambda: known)
    assert main(["list", "--all", "--modality", "rna"]) == 0
    assert "not installed: coembed install rna" in capsys.readouterr().out
    main(["list", "--all", "--modality", "rna", "--json"])
    (row,) = json.loads(capsys.readouterr().out)["components"]
    assert (row["name"], row["installed"], row["dim"]) == ("rna/kmer", False, 256)
    main(["list", "--modality", "rna", "--json"])
    assert json.loads(capsys.readouterr().out)["components"] == []


def test_info_tells_the_spec_and_what_the_class_says(fakes, capsys):
    fakes("good")
    assert main(["info", "good/small"]) == 0
    text = capsys.readouterr().out
    assert "Bytes of a string through a table" in text and "seed=1" in text and "dropout: float = 0.0" in text
    main(["info", "infonce", "--json"])
    assert json.loads(capsys.readouterr().out)["package"] == "coembed"


def test_info_shows_the_spec_of_what_cannot_be_imported(fakes, capsys):
    fakes("missing-target")
    assert main(["info", "missing/a"]) == 0
    captured = capsys.readouterr()
    assert "fake_nowhere:Gone" in captured.out
    assert "missing/a can't be built here: ModuleNotFoundError: No module named 'fake_nowhere'" in captured.err


def test_tables_keep_what_users_wrote(capsys):
    output.table(["name", "text"], [["a", "[bold]x[/bold] :smile:"], ["b" * 300, None]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split(None, 1) == ["a", "[bold]x[/bold] :smile:"]
    assert lines[3].split() == ["b" * 300, "–"], "no line is folded where no person looks"
    assert all(line == line.rstrip() for line in lines)


def test_json_has_no_nan(capsys):
    output.emit({"a": float("nan"), "b": [float("inf"), 1.0]})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.0]}


def test_warnings_of_ours_are_one_line(monkeypatch, capsys):
    import warnings

    from coembed import CoembedWarning

    def run(args):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("features are\nnot cached", CoembedWarning, stacklevel=1)
        return 0

    monkeypatch.setattr("coembed.cli.info.run", run)
    main(["info", "infonce"])
    assert capsys.readouterr().err == "coembed: warning: features are not cached\n"
