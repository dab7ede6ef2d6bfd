"""`coembed plugins --check` and `coembed registry`: faults of any kind are a row, never the command's own end."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from coembed.cli import main, probe
from coembed.cli.plugins import isolated
from coembed.hookspecs import HEAVY
from coembed.plugins import GROUP


def plant(folder, name, code):
    """A plugin whose module holds this code, installed in a folder."""
    facts = folder / f"coembed_{name}-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: coembed-{name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = fake_{name}\n")
    (folder / f"fake_{name}.py").write_text(code)
    return folder


def rows(capsys):
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)["plugins"]}


def test_check_names_every_fault_and_goes_on(fakes, tmp_path, monkeypatch, capsys):
    folder = plant(tmp_path, "crashes", "import os\nos.abort()\n")
    plant(folder, "leaves", "import os\nos._exit(7)\n")
    plant(folder, "talks", "print('hello')\nimport PIL\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("COEMBED_PLUGINS", "crashes,leaves,talks,good,coembed-good,broken,missing")
    monkeypatch.setenv("COEMBED_STRICT", "1")
    fakes("good", "same-name", "import-error", "missing-target", "other", "future-api")
    assert main(["plugins", "--check", "--json"]) == 1
    found = rows(capsys)
    assert {name: row["status"] for name, row in found.items() if row["status"] != "blocked"} == {
        "broken": "failed",
        "core": "ok",
        "crashes": "failed",
        "good": "ok",
        "leaves": "failed",
        "missing": "failed",
        "talks": "ok",
    }
    assert "crashed as it loaded (SIGABRT)" in found["crashes"]["error"]
    assert "ended the interpreter as it loaded (exit code 7)" in found["leaves"]["error"]
    assert "No module named 'a_module_that_is_not_there'; install it" in found["broken"]["error"]
    assert "missing/a can't be built: ModuleNotFoundError: No module named 'fake_nowhere'" in found["missing"]["error"]
    assert (found["good"]["components"], found["good"]["encoders"]) == (2, 2)
    assert found["good"]["load_ms"] > 0
    assert found["talks"]["heavy"] == ["PIL"]
    assert found["talks"]["warnings"] == ["warning: imports PIL as it loads, so every listing is slow"]
    assert found["other"]["status"] == "blocked" and found["other"]["components"] is None


def test_check_of_what_is_right_exits_0_and_prints_a_table(fakes, monkeypatch, capsys):
    monkeypatch.setenv("COEMBED_PLUGINS", "good")
    fakes("good")
    assert main(["plugins", "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "package", "version", "status", "components", "encoders", "load", "ms"]
    (line,) = [line for line in lines if line.startswith(" good ")]
    assert line.split()[:6] == ["good", "coembed-good", "1.0", "ok", "2", "2"]


def test_a_plugin_that_hangs_is_given_up(fakes, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(plant(tmp_path, "hangs", "import time\ntime.sleep(600)\n")))
    assert "did not load within 3 s" in isolated("hangs", timeout=3)["died"]


def test_a_clash_fails_the_check_without_loading_either(fakes, monkeypatch, capsys):
    monkeypatch.setenv("COEMBED_PLUGINS", "good")
    fakes("good", "same-name")
    monkeypatch.setattr("coembed.cli.plugins.isolated", lambda name, timeout: {"died": "x"} if name == "good" else OK)
    assert main(["plugins", "--check", "--json"]) == 1
    row = rows(capsys)["good"]
    assert row["status"] == "clash" and "coembed-good and coembed-impostor both claim 'good'" in row["error"]


OK = {"status": "ok", "error": None, "load_ms": 1.0, "heavy": [], "components": {}, "described": {}, "targets": {}}


def test_a_package_that_takes_anothers_name_is_named(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr("coembed.registry.known", lambda: {"steals": {"package": "coembed-true"}})
    monkeypatch.syspath_prepend(str(plant(tmp_path, "steals", "")))
    result = probe.probe("steals")
    assert result["status"] == "failed"
    assert (
        "`steals/` belongs to coembed-true, but coembed-steals claims it: uninstall coembed-steals" in result["error"]
    )


def test_an_extra_that_is_missing_is_a_warning_with_the_command(fakes, tmp_path, monkeypatch, capsys):
    code = (
        "from coembed import Spec, hookimpl\n@hookimpl\ndef coembed_sources():\n"
        "    yield Spec(name='more/x', target='nowhere_x:X', extra='deep')\n"
    )
    monkeypatch.syspath_prepend(str(plant(tmp_path, "more", code)))
    fakes()
    result = json.loads(json.dumps(probe.probe("more"), default=str))
    monkeypatch.setenv("COEMBED_PLUGINS", "more")
    fakes()
    monkeypatch.setattr("coembed.cli.plugins.isolated", lambda name, timeout: result if name == "more" else OK)
    assert main(["plugins", "--check"]) == 0
    assert "warning: more/x needs an extra: ModuleNotFoundError" in (captured := capsys.readouterr()).err
    assert "pip install 'coembed-more[deep]'" in captured.err


def test_disagreement_with_the_registry_is_a_warning(fakes, monkeypatch, capsys):
    entry = {"modality": "text", "dim": 32, "output": "vector", "license": "MIT", "weights": None}
    known = {"good": {"package": "coembed-good", "components": {"encoder": {"good/bytes": entry}}}}
    monkeypatch.setattr("coembed.registry.known", lambda: known)
    monkeypatch.setenv("COEMBED_PLUGINS", "good")
    fakes("good")
    described = probe.probe("good")
    monkeypatch.setattr("coembed.cli.plugins.isolated", lambda name, timeout: described if name == "good" else OK)
    assert main(["plugins", "--check"]) == 0
    text = capsys.readouterr().err
    assert "warning: good/bytes: dim is 16, registry.yaml says 32" in text
    assert "warning: good/small: good offers this encoder, registry.yaml does not list it" in text


REGISTRY = """\
# Who owns what.
# A second line.
api: 1
plugins:
  absent:
    package: coembed-absent
    tier: verified
    components:
      source: {absent/x: {license: MIT}}
  good:
    package: coembed-good
    tier: core
    license: MIT
    components: {}
"""


@pytest.fixture
def registry(tmp_path):
    path = tmp_path / "registry.yaml"
    path.write_text(REGISTRY)
    return path


def test_registry_is_checked_written_and_then_agrees(fakes, registry, capsys):
    fakes("good", "other")
    assert main(["registry", "--check", "--file", str(registry)]) == 1
    captured = capsys.readouterr()
    assert "good/bytes: good offers this encoder, registry.yaml does not list it" in captured.out
    assert "not installed, so not compared: absent" in captured.err
    assert registry.read_text() == REGISTRY, "--check writes nothing"
    assert main(["registry", "--write", "--file", str(registry)]) == 0
    text = registry.read_text()
    assert text.startswith("# Who owns what.\n# A second line.\napi: 1\nplugins:\n  absent:\n")
    data = yaml.safe_load(text)["plugins"]
    assert list(data) == ["absent", "good"], "the order of the file is kept"
    assert data["absent"] == yaml.safe_load(REGISTRY)["plugins"]["absent"], "what is not installed stays"
    assert (data["good"]["tier"], data["good"]["license"]) == ("core", "MIT")
    assert data["good"]["components"]["encoder"]["good/small"]["dim"] == 8
    assert len([line for line in text.splitlines() if "good/small" in line]) == 1
    capsys.readouterr()
    assert main(["registry", "--check", "--file", str(registry), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(registry),
        "checked": ["good"],
        "absent": ["absent"],
        "differences": [],
    }
    before = registry.read_text()
    assert main(["registry", "--write", "--file", str(registry)]) == 0
    assert registry.read_text() == before, "written twice is written once"


def test_registry_takes_new_plugins_by_name(fakes, registry, capsys):
    fakes("good", "other")
    assert main(["registry", "--check", "other", "--file", str(registry)]) == 1
    assert "other: not listed" in capsys.readouterr().out
    assert main(["registry", "--write", "other", "--file", str(registry)]) == 0
    entry = yaml.safe_load(registry.read_text())["plugins"]["other"]
    assert (entry["package"], entry["tier"]) == ("coembed-other", "community")
    assert main(["registry", "--write", "nobody", "--file", str(registry)]) == 1
    assert "nobody: not installed" in capsys.readouterr().err


def test_registry_faults(fakes, registry, capsys, monkeypatch):
    fakes("good", "same-name", "other")
    assert main(["registry", "--check", "--file", str(registry)]) == 1
    assert "both claim 'good'" in capsys.readouterr().err
    fakes("import-error")
    monkeypatch.setenv("COEMBED_PLUGINS", "coembed-good,broken")
    fakes()
    assert main(["registry", "--check", "broken", "--file", str(registry)]) == 1
    assert "broken (coembed-import-error) does not load: ModuleNotFoundError" in capsys.readouterr().err
    registry.write_text("plugins: [")
    assert main(["registry", "--check", "--file", str(registry)]) == 1
    assert "not YAML" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["registry"])
    assert ended.value.code == 2


def test_what_plugins_must_not_import_has_the_modules_that_ruff_bans():
    import tomllib
    from pathlib import Path

    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert set(settings["flake8-tidy-imports"]["banned-module-level-imports"]) <= set(HEAVY)
    assert "fake_good" not in sys.modules
