"""What `--json` prints has the keys that docs/json.md lists, no more and no fewer."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

from coembed import cli, install
from coembed.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]


def documented():
    """The keys that docs/json.md lists, by command; those that are not always there in a second set."""
    pages = re.split(r"^## coembed (\S+)$", (ROOT / "docs" / "json.md").read_text(encoding="utf-8"), flags=re.M)[1:]
    found = {}
    for name, text in zip(pages[::2], pages[1::2], strict=True):
        rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", text, flags=re.M)
        found[name] = {key for key, _ in rows}, {key for key, meaning in rows if "only" in meaning}
    return found


OPAQUE = {"vectors", "figures", "payload", "kwargs", "prompts", "split"}


def keys(value, place=""):
    """Every key path of a JSON value, in the notation of docs/json.md."""
    if place.rpartition(".")[2] in OPAQUE:
        return {place}
    if isinstance(value, list):
        return {key for inner in value for key in keys(inner, f"{place}[]")} or {place}
    if isinstance(value, dict):
        return {path for key, inner in value.items() for path in keys(inner, f"{place}.{key}".lstrip("."))}
    return {place.removesuffix("[]")}


def check_documented(command, data):
    listed, sometimes = documented()[command]
    found = keys(data)
    assert found <= listed, f"not in docs/json.md: {found - listed}"
    assert listed - sometimes <= found, f"in docs/json.md only: {listed - sometimes - found}"


def test_listing(fakes, capsys):
    fakes("good", "import-error", "missing-target")
    for argv in (["plugins"], ["list"], ["info", "infonce"], ["info", "good/bytes"]):
        main([*argv, "--json"])
        check_documented(argv[0], json.loads(capsys.readouterr().out))


def test_training_and_searching(fakes, tmp_path, monkeypatch, capsys):
    fakes("good")
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"a": f"item {i}", "b": f"ITEM {i}"}) for i in range(40)]
    Path("pairs.jsonl").write_text("\n".join(lines))
    Path("docs").mkdir()
    Path("docs", "x.txt").write_text("item x")
    towers = ["--tower", "a=good/bytes", "--tower", "b=good/small"]
    for argv in (
        ["align", *towers, "--source", "pairs.jsonl", "--held-out", "0.3", "--steps", "2", "--out", "space"],
        ["embed", "space", "--tower", "a", "--text", "x"],
        ["index", "space", "--tower", "b", "docs"],
        ["search", "space", "--from", "a", "--to", "b", "item x"],
        ["eval", "space", "--source", "pairs.jsonl"],
    ):
        assert main([*argv, "--json"]) == 0
        check_documented(argv[0], json.loads(capsys.readouterr().out))


def test_installing_and_the_registry(fakes, tmp_path, monkeypatch, capsys):
    fakes("good")
    monkeypatch.setattr(install, "plan", lambda asked, upgrade: [install.Change("coembed-text", None, "0.1.0")])
    (tmp_path / "registry.yaml").write_text("api: 1\nplugins: {}\n")
    for argv in (
        ["install", "text", "--dry-run"],
        ["uninstall", "good", "--dry-run"],
        ["registry", "--check", "--file", str(tmp_path / "registry.yaml")],
    ):
        assert main([*argv, "--json"]) == 0
        check_documented(argv[0], json.loads(capsys.readouterr().out))


def test_every_command_with_json_is_documented():
    have = set()
    for name, (module, _) in COMMANDS.items():
        if importlib.util.find_spec(module) and name != "demo":
            if any("--json" in action.option_strings for action in cli.command_parser(name)._actions):
                have.add(name)
    assert set(documented()) <= set(COMMANDS)
    assert have <= set(documented())
