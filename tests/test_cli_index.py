"""coembed index build, add, delete, info, and search over what they made: items, vectors, filters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import coembed
from coembed.cli import main
from coembed.index import open_index, writing


@pytest.fixture(autouse=True)
def space(fakes, tmp_path, monkeypatch):
    fakes("good")
    monkeypatch.chdir(tmp_path)
    for name, text in (("one", "a red cat"), ("two", "a small dog"), ("three", "bread and butter")):
        Path("docs").mkdir(exist_ok=True)
        Path("docs", f"{name}.txt").write_text(text)
    coembed.Space({"a": "good/bytes", "b": "good/bytes"}).save("space")


def out(capsys):
    return json.loads(capsys.readouterr().out)


def fails(capsys, argv, message, code=1):
    capsys.readouterr()
    try:
        found = main(argv)
    except SystemExit as stop:
        found = stop.code
    captured = capsys.readouterr()
    assert found == code and message in captured.err, captured.err


def test_build_add_delete_info(capsys):
    assert main(["index", "build", "space", "--tower", "b", "docs", "--json"]) == 0
    assert out(capsys) == {"count": 3, "skipped": 0, "tower": "b", "out": "space/index/b"}
    Path("docs", "two.txt").write_text("a large dog")
    Path("docs", "four.txt").write_text("tea")
    argv = ["index", "add", "space", "--tower", "b", "docs", "--json"]
    assert main(argv) == 0
    assert out(capsys) == {"count": 4, "skipped": 0, "tower": "b", "out": "space/index/b", "added": 4}
    index = open_index("space/index/b")
    assert sorted(index.ids) == ["four.txt", "one.txt", "three.txt", "two.txt"]
    assert main(["search", "space", "--from", "a", "--to", "b", "a large dog", "-k", "1", "--json"]) == 0
    (hit,) = out(capsys)["queries"][0]["hits"]
    assert hit["id"] == "two.txt" and hit["payload"]["text"] == "a large dog"
    for given in (["space"], ["space", "--tower", "b"], ["space/index/b"], ["--out", "space/index/b"]):
        assert main(["index", "info", *given, "--json"]) == 0
        data = out(capsys)
        assert (data["kind"], data["count"], data["dim"], data["meta"]["tower"]) == ("exact", 4, 16, "b")
        assert data["bytes"] > 4 * 16 * 4
    assert main(["index", "info", "space"]) == 0
    assert "exact" in capsys.readouterr().out
    assert main(["index", "delete", "space/index/b", "one.txt", "--json"]) == 0
    assert out(capsys) == {"deleted": 1, "count": 3, "out": "space/index/b"}
    assert main(["index", "delete", "space", "--where", "'dog' in text or text == 'tea'"]) == 0
    assert open_index("space/index/b").ids == ["three.txt"]
    fails(capsys, ["index", "delete", "space", "one.txt"], "there is no id 'one.txt'")
    assert main(["index", "space", "--tower", "b", "docs", "--json"]) == 0, "without a word it builds"
    assert out(capsys)["count"] == 4


def test_a_folder_called_build_is_reached(capsys):
    Path("space").rename("build")
    assert main(["index", "build", "build", "--tower", "b", "--text", "x", "--json"]) == 0
    assert out(capsys)["count"] == 1


@pytest.mark.parametrize("form", ["safetensors", "parquet"])
def test_vectors_in_vectors_as_queries(capsys, form):
    argv = ["embed", "space", "--tower", "b", "docs", "--out", "v", "--shard", "2", "--format", form]
    assert main(argv) == 0
    assert main(["index", "build", "--vectors", "v", "--out", "own"]) == 0
    assert "coembed search --index own --vectors DIR" in capsys.readouterr().err
    assert main(["search", "--index", "own", "--vectors", "v", "-k", "1", "--json"]) == 0
    queries = out(capsys)["queries"]
    assert [q["query"] for q in queries] == [q["hits"][0]["id"] for q in queries] == sorted(q["query"] for q in queries)
    assert queries[0]["hits"][0]["payload"]["text"]
    assert main(["search", "--index", "own", "--vectors", "v", "-k", "1"]) == 0
    assert "one.txt" in capsys.readouterr().out
    assert (
        main(["search", "space", "--from", "a", "--to", "b", "--index", "own", "a red cat", "-k", "1", "--json"]) == 0
    )
    assert out(capsys)["queries"][0]["hits"][0]["id"] == "one.txt"


def test_one_file_of_anybodys_vectors(capsys):
    x = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)))
    save_file({"values": x}, "x.safetensors", metadata={"ids": json.dumps(list("abcde"))})
    save_file({"values": x[3:4, None]}, "q.safetensors")
    assert main(["index", "build", "--vectors", "x.safetensors", "--out", "own"]) == 0
    capsys.readouterr()
    assert main(["search", "--index", "own", "--vectors", "q.safetensors", "-k", "1", "--json"]) == 0
    assert out(capsys)["queries"][0]["hits"][0]["id"] == "d"
    save_file({"other": x}, "bad.safetensors")
    fails(
        capsys, ["index", "add", "--vectors", "bad.safetensors", "--out", "own"], "it has other, `values` is expected"
    )
    Path("cut.safetensors").write_bytes(Path("x.safetensors").read_bytes()[:-4])
    fails(capsys, ["index", "add", "--vectors", "cut.safetensors", "--out", "own"], "cut.safetensors: damaged")
    fails(capsys, ["index", "build", "--vectors", "nothing", "--out", "new"], "nothing: no such folder")
    fails(capsys, ["index", "build", "--vectors", "docs", "--out", "new"], "docs holds no vectors; `coembed embed")
    assert not Path("new").exists() and len(open_index("own")) == 5


def test_where_narrows_the_search(capsys):
    assert main(["index", "space", "--tower", "b", "docs"]) == 0
    capsys.readouterr()
    argv = ["search", "space", "--from", "a", "--to", "b", "a red cat", "--json", "--where"]
    assert main([*argv, "'dog' in text"]) == 0
    assert [hit["id"] for hit in out(capsys)["queries"][0]["hits"]] == ["two.txt"]
    assert main([*argv, "path == 'docs/none.txt'"]) == 0
    assert out(capsys)["queries"][0]["hits"] == []
    fails(capsys, [*argv, "text = 'x'"], "position 6")
    fails(capsys, [*argv, "open('x')"], "position 1 (\"open('x')\"): a key of the payload is expected; allowed: ")


def test_errors_of_newcomers(capsys):
    search = ["search", "space", "x"]
    fails(capsys, [*search, "--from", "a", "--to", "nope"], "space has no tower 'nope'; its towers: a, b")
    fails(capsys, [*search, "--from", "nope", "--to", "b"], "space has no tower 'nope'; its towers: a, b")
    fails(capsys, [*search, "--to", "b"], "--from is needed: a tower of space", code=2)
    fails(capsys, [*search, "--from", "b"], "--to is needed", code=2)
    fails(capsys, ["search"], "give a SPACE", code=2)
    fails(capsys, ["search", "--vectors", "v"], "--vectors needs --index", code=2)
    fails(capsys, [*search, "--vectors", "v"], "--vectors are the queries: leave QUERY", code=2)
    fails(capsys, ["index"], "give a SPACE, or --vectors", code=2)
    fails(capsys, ["index", "space", "docs"], "--tower is needed", code=2)
    fails(capsys, ["index", "build", "--vectors", "v"], "--vectors needs --out", code=2)
    fails(capsys, ["index", "build", "space", "--vectors", "v"], "--vectors goes without SPACE and INPUT", code=2)
    fails(capsys, ["index", "build", "space", "--where", "a == 1", "docs"], "--where goes with delete", code=2)
    fails(capsys, ["index", "delete", "space"], "give the IDs to delete, or --where", code=2)
    fails(capsys, ["index", "info"], "give the folder of an index", code=2)
    fails(capsys, ["index", "info", "docs"], "docs: neither an index nor a space with one")
    fails(capsys, ["index", "add", "space", "--tower", "b", "docs"], "b is not a saved index")
    assert not Path("space/index").exists(), "what failed leaves nothing"


def test_adding_needs_the_tower_as_it_was(capsys):
    assert main(["index", "space", "--tower", "b", "docs", "--out", "own"]) == 0
    argv = ["index", "add", "space", "docs", "--out", "own", "--tower"]
    fails(capsys, [*argv, "a"], "own is an index of tower b, not of a")
    other = coembed.Space({"a": "good/bytes", "b": coembed.load("good/bytes", seed=7)})
    other.save("space")
    fails(capsys, [*argv, "b"], "trained anew: build it again")
    assert main(["index", "info", "space"]) == 1, "the index is not within the space"


def test_while_another_writes(capsys):
    assert main(["index", "space", "--tower", "b", "docs"]) == 0
    code = "import sys; from coembed.cli import main; sys.exit(main(['index', 'delete', 'space/index/b', 'one.txt']))"
    with writing("space/index/b"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "is writing to this index: wait until it is done" in done.stderr
    assert len(open_index("space/index/b")) == 3
