"""`coembed embed` on many items: shards that are whole or not there, any kill survived, the same bytes by any way."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import coembed
from coembed.bulk import Bad, BulkError, Item, Job, finish
from coembed.cli import main
from coembed.embedding import Embedding

from . import processes

ENCODER = ["text/transformer", "--set", "dim=16", "--set", "layers=1", "--set", "heads=2"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def texts(count, path="texts.jsonl"):
    rows = [{"id": f"t{i}", "text": f"text number {i} " + "word " * (i % 7), "year": 2000 + i} for i in range(count)]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [row["text"] for row in rows]


def embed(out, *more, source="texts.jsonl", shard="16"):
    given = ["--source", source, "--map", "text=text", "--column", "text", "--shard", shard, "--out", out]
    return ["embed", *ENCODER, *given, *more]


def contents(out):
    """Every file with its bytes; the part files of killed processes must be gone."""
    return {path.name: path.read_bytes() for path in sorted(Path(out).iterdir())}


def rows(out):
    ids, values = [], []
    for path in sorted(Path(out).glob("vectors-*.safetensors")):
        with safe_open(str(path), "pt") as file:
            values.append(file.get_tensor("values"))
        ids += [json.loads(line) for line in Path(out, path.name.replace("vectors", "ids")[:-11] + "jsonl").open()]
    return ids, torch.cat(values)


def test_shards_hold_what_encode_gives(capsys):
    items = texts(50)
    assert main([*embed("v"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"count": 50, "skipped": 0, "shards": 4, "out": "v"}
    ids, values = rows("v")
    wanted = coembed.load("text/transformer", dim=16, layers=1, heads=2).encode(items).values
    assert torch.equal(values, wanted)
    assert [row["id"] for row in ids] == [f"t{i}" for i in range(50)]
    assert ids[3]["text"] == items[3].strip() and ids[3]["year"] == 2003


def test_fifty_kills_lose_nothing_and_write_nothing_twice(tmp_path):
    texts(1500)
    argv = embed("whole", shard="8")
    assert main(argv) == 0
    wanted = contents("whole")
    draw, landed, paths = random.Random(0), 0, {"PYTHONPATH": os.pathsep.join(sys.path)}
    for kill in range(50):
        before = len(list(Path("killed").glob("vectors-*"))) if Path("killed").exists() else 0
        begun = processes.start("command", tmp_path / "log", words=embed("killed", shard="8"), environment=paths)
        goal, deadline = before + draw.randrange(4), time.monotonic() + 60
        while begun.is_alive() and time.monotonic() < deadline:
            if Path("killed").exists() and len(list(Path("killed").glob("vectors-*"))) >= goal:
                break
            time.sleep(0.001)
        time.sleep(draw.random() * 0.01)
        landed += begun.is_alive()
        begun.kill()
        processes.end([begun], 30)
        for name, data in contents("killed").items():  # at every moment what is there is whole
            if not name.startswith(".") and name.startswith("vectors-"):
                assert data == wanted[name], (kill, name)
    assert landed >= 40, "most of the kills hit a process that ran"
    assert main(embed("killed", shard="8")) == 0
    assert contents("killed") == wanted


def test_workers_write_the_same_bytes():
    texts(100)
    assert main(embed("one")) == 0
    assert main([*embed("two"), "--workers", "2"]) == 0
    assert contents("one") == contents("two")


def test_only_shards_whose_items_changed_are_made_anew(monkeypatch):
    items = texts(64)
    assert main(embed("v")) == 0
    before = {path: path.stat().st_mtime_ns for path in Path("v").glob("vectors-*")}
    lines = Path("texts.jsonl").read_text().splitlines()
    lines[20] = json.dumps({"id": "t20", "text": "something else", "year": 1})
    Path("texts.jsonl").write_text("\n".join(lines[:60]) + "\n")
    assert main(embed("v")) == 0
    changed = [path.name for path, at in before.items() if path.stat().st_mtime_ns != at]
    assert sorted(changed) == ["vectors-00001.safetensors", "vectors-00003.safetensors"]
    ids, values = rows("v")
    assert len(ids) == 60 and ids[20]["text"] == "something else"
    wanted = coembed.load("text/transformer", dim=16, layers=1, heads=2).encode([*items[:20], "something else"])
    assert torch.equal(values[:21], wanted.values)
    Path("texts.jsonl").write_text("\n".join(lines[:10]) + "\n")
    assert main(embed("v")) == 0
    assert len(list(Path("v").glob("vectors-*"))) == 1, "shards that the input no longer has are gone"


def test_another_job_in_the_folder_is_refused_by_name(capsys):
    texts(20)
    assert main(embed("v")) == 0
    assert main(embed("v", shard="8")) == 1
    assert "shard was 16, is 8" in capsys.readouterr().err
    Path("other").mkdir()
    Path("other", "letter.txt").write_text("x")
    assert main(embed("other")) == 1
    assert "other holds letter.txt: choose an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(("dim", "told"), [(4, nullcontext()), (8, pytest.raises(BulkError, match="dim was 4, is 8"))])
def test_processes_may_claim_a_folder_at_once(monkeypatch, dim, told):
    """Another has claimed it, and written a shard, just before this one looks what is in it."""
    look, other = Path.iterdir, Job(Path("v"), {"dim": 4})

    def late(self):
        monkeypatch.setattr(Path, "iterdir", look)
        other.claim()
        Path("v", "vectors-00000.safetensors").touch()
        return look(self)

    Path("v").mkdir()
    monkeypatch.setattr(Path, "iterdir", late)
    with told:
        Job(Path("v"), {"dim": dim}).claim()


def test_a_kill_inside_the_claim_leaves_the_folder_free():
    Path("v").mkdir()
    Path("v", ".job.json.123.part").write_text('{"dim"')
    job = Job(Path("v"), {"dim": 4})
    job.claim()
    finish(Path("v"), job.run([], lambda items: None)[0])
    assert [path.name for path in Path("v").iterdir()] == ["job.json"]


def test_parquet_holds_ids_payloads_and_the_same_vectors():
    pq = pytest.importorskip("pyarrow.parquet", reason="pip install 'coembed[parquet]'")
    items = texts(20)
    assert main([*embed("v"), "--format", "parquet"]) == 0
    table = pq.read_table("v/vectors-00000.parquet")
    wanted = coembed.load("text/transformer", dim=16, layers=1, heads=2).encode(items).vectors
    assert torch.equal(torch.tensor(table["vector"].to_pylist()), wanted[:16])
    assert table["id"].to_pylist()[:2] == ["t0", "t1"]
    assert json.loads(table["payload"].to_pylist()[4])["year"] == 2004
    bytes_before = contents("v")
    Path("v/vectors-00001.parquet").unlink()
    assert main([*embed("v"), "--format", "parquet"]) == 0
    assert contents("v") == bytes_before


@pytest.mark.external
def test_ray_data_writes_the_same_bytes():
    pytest.importorskip("ray", reason="pip install 'coembed[ray]'")
    texts(40)
    assert main(embed("here")) == 0
    assert main([*embed("there"), "--engine", "ray", "--workers", "2"]) == 0
    assert contents("here") == contents("there")


def encode(items):
    kept = [item for item in items if item.item != "bad"]
    values = torch.tensor([[float(len(item.item))] for item in kept]).reshape(-1, 1)
    return (
        kept,
        Embedding.from_vectors(values),
        [Bad(i.position, i.id, None, "bad", "good") for i in items if i.item == "bad"],
    )


def test_bad_items_stay_in_their_shard_and_positions_without_an_item_count():
    stream = [Item(i, str(i), "bad" if i == 5 else "x" * i, {}) for i in range(10) if i != 2]
    stream.insert(2, Bad(2, "2", "f.txt", "a file that can't be read", "a readable file"))
    job = Job(Path("v"), {}, size=4)
    job.claim()
    assert job.run(stream, encode) == (3, 10)
    assert [(row.position, row.path) for row in finish(Path("v"), 3)] == [(2, "f.txt"), (5, None)]
    seen = []
    assert job.run(stream, lambda items: seen.append(items), done=seen.append) == (3, 10)
    assert seen == [4, 4, 2], "all shards were there, those with bad items too"


def test_a_missing_shard_is_said():
    job = Job(Path("v"), {}, size=4)
    job.claim()
    stream = [Item(i, str(i), "x", {}) for i in range(10)]
    assert job.run(stream, encode, part=0, parts=2) == (3, 10)
    with pytest.raises(BulkError, match="shard 1 is not there"):
        finish(Path("v"), 3)
    job.run(stream, encode, part=1, parts=2)
    assert finish(Path("v"), 3) == []


def test_a_damaged_shard_is_made_again():
    job = Job(Path("v"), {}, size=4)
    job.claim()
    stream = [Item(i, str(i), "x" * i, {}) for i in range(8)]
    job.run(stream, encode)
    before = contents("v")
    path = Path("v/vectors-00001.safetensors")
    path.write_bytes(path.read_bytes()[:40])
    job.run(stream, encode)
    assert contents("v") == before


def test_a_store_encodes_only_what_is_new_and_gives_the_same_bytes(capsys, monkeypatch):
    """One text more at the start moves every shard; what a shard holds is encoded again, but from the store."""
    from coembed.nn.encoder import TransformerEncoder

    texts(60)
    lines = Path("texts.jsonl").read_text().splitlines()
    assert main(embed("first", "--store", "kept")) == 0
    Path("texts.jsonl").write_text("\n".join([json.dumps({"id": "new", "text": "one text more"}), *lines]) + "\n")
    read, tokenize = [], TransformerEncoder.tokenize

    def counted(self, items, prompt=""):
        read.extend(items)
        return tokenize(self, items, prompt)

    with monkeypatch.context() as patch:
        patch.setattr(TransformerEncoder, "tokenize", counted)
        assert main(embed("second", "--store", "kept")) == 0
    assert read == ["one text more"], "nothing else was encoded"
    assert main(embed("plain")) == 0
    assert contents("second") == contents("plain")


def test_a_store_and_a_bad_item(capsys):
    Path("dna.jsonl").write_text("".join(json.dumps({"id": str(i), "dna": d}) + "\n" for i, d in enumerate(DNA)))
    given = ["--source", "dna.jsonl", "--map", "dna=dna", "--column", "dna", "--on-error", "skip"]
    for out, more in (("plain", []), ("stored", ["--store", "kept"]), ("again", ["--store", "kept"])):
        assert main(["embed", "dna/kmer", "--set", "k=3", *given, "--out", out, *more]) == 0
        assert [json.loads(line)["id"] for line in Path(out, "skipped-00000.jsonl").open()] == ["1", "3"]
    assert contents("plain") == contents("stored") == contents("again")


DNA = ["ACGTACGT", "what is this?", "GGGTTTACA", "!", "ACGTACGA"]
