"""The list of published methods tells the truth, and the generated pages are what the code says today."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tool", ROOT / "tools" / "docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


docs = load_docs()
METHODS = docs.methods()
FIELDS = ["id", "title", "year", "reference", "mechanism", "kind", "component", "recipe", "state"]


def test_ids_are_unique_and_kebab_case():
    ids = [method["id"] for method in METHODS]
    assert len(ids) == len(set(ids)), "two entries share an id"
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id_) for id_ in ids)
    assert len({method["title"] for method in METHODS}) == len(ids)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["id"])
def test_entry_holds(method):
    assert list(method) == FIELDS
    assert method["kind"] in docs.KINDS
    assert method["state"] in docs.STATES
    assert isinstance(method["year"], int) and 2000 < method["year"] < 2100
    assert re.match(r"arXiv \d{4}\.\d{5}", method["reference"])
    assert len(method["mechanism"]) < 200 and "\n" not in method["mechanism"], "one line"
    for path in docs.names(method["recipe"]):
        assert (ROOT / path).is_file(), f"{method['id']}: no file {path}"
    if method["state"] in ("done", "reconstruction"):
        assert method["recipe"], f"{method['id']} is {method['state']} without a recipe"
    if method["state"] == "open":
        assert not method["component"] and not method["recipe"], f"{method['id']} has parts: it is partial at least"
    if method["state"] == "partial":
        assert method["component"] or method["recipe"], f"{method['id']} is partial: name what works"


def test_components_are_registered():
    from coembed.plugins import plugins

    for method in METHODS:
        for name in docs.names(method["component"]):
            plugins().find(name)  # raises for an unknown name, saying what is near it


@pytest.mark.parametrize("page", docs.PAGES)
def test_generated_page_is_up_to_date(page):
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == docs.render(page), "run `make docs`"


def test_every_hook_has_a_heading_and_an_example():
    from coembed.spec import KINDS

    sections = docs.hooks_page().split("\n## ")[1:]
    assert [section.split("`")[1] for section in sections] == [kind.hook for kind in KINDS.values()]
    assert all(section.count("```python") == 2 and "@hookimpl" in section for section in sections)


def test_check_fails_on_a_stale_page_and_writing_mends_it(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    monkeypatch.setattr(docs, "DOCS", tmp_path / "docs")
    page = tmp_path / "docs" / "methods.md"
    page.write_text(page.read_text(encoding="utf-8") + "by hand\n", encoding="utf-8")
    assert docs.main(["--check", "methods.md"]) == 1
    assert "-by hand" in capsys.readouterr().out
    assert docs.main(["methods.md"]) == 0
    assert "by hand" not in page.read_text(encoding="utf-8")
    assert docs.main(["--check", "methods.md"]) == 0


def test_argument_table_shows_what_a_user_types():
    parser = argparse.ArgumentParser(prog="coembed search")
    parser.add_argument("query", nargs="+", help="text a|b")
    parser.add_argument("--from", metavar="TOWER", required=True, help="tower of the query")
    parser.add_argument("-k", type=int, default=10, help="how many (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    assert docs.arguments(parser).splitlines()[2:] == [
        r"| `QUERY ...` | text a\|b |",
        "| `--from TOWER` | tower of the query (required) |",
        "| `-k K` | how many (default: 10) |",
    ]
