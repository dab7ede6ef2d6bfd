"""The choice by size, width and memory: what is chosen when, told in words, and changed by rebuild alone."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import save_file

import coembed
from coembed.cli import main
from coembed.index import open_index
from coembed_index import auto
from coembed_index.auto import choose


@pytest.mark.parametrize(
    ("rows", "dim", "gigabytes", "tokens", "kind"),
    [
        (1_000, 384, 8, 1, "exact"),
        (200_000, 384, 8, 1, "exact"),
        (200_000, 384, 0.2, 1, "index/hnsw"),
        (5_000_000, 384, 8, 1, "index/hnsw"),
        (5_000_000, 384, 1, 1, "index/binary"),
        (1_000_000_000, 384, 64, 1, "index/ivfpq"),
        (100_000, 128, 64, 100, "index/multivector"),
        (1_000, 128, 64, 100, "exact"),
    ],
)
def test_the_choice(rows, dim, gigabytes, tokens, kind):
    choice = choose(rows, dim, gigabytes * 1e9, tokens)
    assert choice.kind == kind
    assert f"{rows:,} rows of width {dim}" in choice.reason
    coembed.load(choice.kind, "index", **choice.arguments)


def test_a_graph_of_less_memory_keeps_eight_bits():
    assert choose(5_000_000, 384, 5e9).arguments == {"dtype": "f16"}
    assert choose(5_000_000, 384, 3e9).arguments == {"dtype": "i8"}


def test_it_changes_by_rebuild_alone(rows, queries, exact, helpers, monkeypatch, tmp_path):
    monkeypatch.setattr(auto, "EXACT", 64 * 600)
    index = helpers.fill(coembed.load("index/auto"), rows[:500])
    index.meta["tower"] = "text"
    index.search(queries)
    helpers.fill(index, rows[500:], 500)
    index.search(queries)
    assert index.chosen.kind == "exact", "it has grown beyond what is compared as a whole, and waits to be told"
    index.rebuild()
    assert index.chosen.kind == "index/hnsw"
    assert helpers.share(index, exact, queries) >= index.recall
    assert helpers.share(index, exact, queries, where="n < 30") >= index.recall, "payloads came along"
    assert index.ids == exact.ids and index.meta["tower"] == "text"
    assert "chose index/hnsw: 2,000 rows of width 64: too many" in str(index.report(sample=20))
    index.save(tmp_path)
    again = open_index(tmp_path)
    assert again.kind == "index/hnsw" and again.meta == index.meta and "too many" in again.meta["auto"]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [("index/hnsw", ["--set", "dtype=i8"]), ("index/int8", ["--set", "keep=none"]), ("index/auto", [])],
)
def test_commands_take_any_kind(kind, arguments, rows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("coembed.cli.index.STAGED", 700)
    save_file(
        {"values": rows.vectors.contiguous()}, "x.safetensors", {"ids": json.dumps([f"id{i}" for i in range(2000)])}
    )
    save_file({"values": rows.vectors[5:6].contiguous()}, "q.safetensors")
    assert main(["index", "build", "--vectors", "x.safetensors", "--kind", kind, *arguments, "--out", "own"]) == 0
    capsys.readouterr()
    assert main(["search", "--index", "own", "--vectors", "q.safetensors", "-k", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["queries"][0]["hits"][0]["id"] == "id5"
    assert main(["index", "delete", "own", "id5"]) == 0
    assert main(["index", "info", "own", "--report", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["count"] == 1999
    assert facts["report"]["rows"] == 1999 and facts["report"]["disk"] > 0
    if kind == "index/auto":
        assert facts["kind"] == "exact" and "comparing all of them is fast" in facts["meta"]["auto"]
        assert facts["report"]["recall"] == 1
    else:
        assert facts["kind"] == kind
    assert main(["index", "info", "own", "--report"]) == 0
    assert "recall@10 against brute force" in capsys.readouterr().out
    assert main(["index", "add", "--vectors", "q.safetensors", "--out", "own"]) == 0
    assert len(open_index("own")) == 2000


def test_report_and_set_go_where_they_belong(capsys):
    for argv in (
        ["index", "delete", "own", "x", "--report"],
        ["index", "add", "--vectors", "v", "--out", "o", "--set", "a=1"],
    ):
        with pytest.raises(SystemExit) as stop:
            raise SystemExit(main(argv))
        assert stop.value.code == 2
