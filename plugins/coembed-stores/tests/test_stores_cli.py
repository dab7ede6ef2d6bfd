"""coembed index and search over a store: built, added to, searched, told of, like any other index."""

from __future__ import annotations

import json

import pytest

import coembed
from coembed.cli import main


def test_a_store_is_an_index_of_the_command_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("lancedb", reason="pip install 'coembed-stores[lancedb]'")
    pytest.importorskip("coembed_text")
    monkeypatch.chdir(tmp_path)
    coembed.Space({"a": "text/tfidf", "b": "text/tfidf"}).save("space")

    def run(*argv):
        capsys.readouterr()
        assert main([*argv, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    text = ["--text", "a red cat", "--text", "a blue dog"]
    where = ["--kind", "stores/lancedb", "--set", "uri=lance"]
    assert run("index", "build", "space", "--tower", "b", *text, *where)["count"] == 2
    assert run("index", "add", "space", "--tower", "b", "--text", "bread and butter")["count"] >= 2
    found = run("search", "space", "--from", "a", "--to", "b", "dog", "--where", "text != 'a red cat'", "-k", "1")
    assert found["queries"][0]["hits"][0]["payload"]["text"] == "a blue dog"
    facts = run("index", "info", "space", "--tower", "b")
    assert facts["kind"] == "stores/lancedb" and facts["dim"] == 4096
    assert run("index", "delete", "space", "--tower", "b", "--where", "text == 'a blue dog'")["deleted"] == 1
    found = run("search", "space", "--from", "a", "--to", "b", "dog")["queries"][0]["hits"]
    assert found and "a blue dog" not in {hit["payload"]["text"] for hit in found}
