"""From pairs to a space that is searched: align, embed, index, search, eval, as a user types them."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import coembed
from coembed.cli import main

WORDS = ["red", "green", "blue", "small", "large", "cat", "dog", "house", "tree", "fish"]
TOWERS = ["--tower", "a=good/bytes", "--tower", "b=good/small"]
ALIGN = ["align", *TOWERS, "--source", "pairs.jsonl", "--out", "space"]


@pytest.fixture(autouse=True)
def here(fakes, tmp_path, monkeypatch):
    """A working folder with pairs.jsonl (b is a in capitals), docs/ and plugin good."""
    fakes("good")
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    texts = [" ".join(draw.sample(WORDS, 3)) for _ in range(150)]
    rows = [{"id": f"r{i}", "a": text, "b": text.upper(), "group": text} for i, text in enumerate(texts)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("docs", "deep").mkdir(parents=True)
    for name, text in [("one.txt", "RED CAT TREE"), ("deep/two.txt", "SMALL DOG FISH"), (".hidden", "no")]:
        Path("docs", name).write_text(text)
    return tmp_path


def out(capsys):
    return json.loads(capsys.readouterr().out)


def align(*more, steps=60):
    return main([*ALIGN, "--steps", str(steps), "--batch-size", "32", "--lr", "0.01", *more])


def test_align_index_search_eval(capsys):
    assert align() == 0
    captured = capsys.readouterr()
    assert "chance in brackets" in captured.out and "a->b" in captured.out
    assert "tower a: good/bytes, 16 -> 8, the head and all train" in captured.err
    assert "coembed index space --tower a FOLDER" in captured.err
    assert main(["eval", "space", "--source", "pairs.jsonl", "--held-out", "--json"]) == 0
    result = out(capsys)
    assert result["split"] == {"held_out": 0.1, "seed": 0}
    for figures in result["figures"].values():
        assert figures["MRR"] > 2 * figures["chance_MRR"], "the space learned to tell held-out texts apart"
    card = coembed.Space.load("space").card
    assert card["figures"] == result["figures"], "eval --held-out measures what align measured"
    assert main(["index", "space", "--tower", "b", "docs"]) == 0
    capsys.readouterr()
    argv = ["search", "space", "--from", "a", "--to", "b", "--json"]
    assert main([*argv, "red cat tree", "-k", "1", "small dog fish"]) == 0
    queries = out(capsys)["queries"]
    assert [(q["query"], [hit["id"] for hit in q["hits"]]) for q in queries] == [
        ("red cat tree", ["one.txt"]),
        ("small dog fish", ["deep/two.txt"]),
    ]
    assert queries[0]["hits"][0]["payload"] == {"path": "docs/one.txt", "text": "RED CAT TREE"}
    rows = coembed.Space.load("space")
    score = coembed.similarity(rows.encode("a", ["red cat tree"]), rows.encode("b", ["RED CAT TREE"])).item()
    assert queries[0]["hits"][0]["score"] == pytest.approx(score, abs=1e-6)


def test_a_run_goes_on_where_it_was_stopped_and_knows_its_own(capsys, monkeypatch):
    assert align("--json", "--checkpoint-every", "10") == 0
    whole = out(capsys)
    weights = coembed.Space.load("space").state_dict()
    shutil.rmtree("space")

    real, seen = coembed.tasks.Contrast.loss, []

    def stops(self, *given):
        seen.append(1)
        if len(seen) == 35:
            raise KeyboardInterrupt
        return real(self, *given)

    monkeypatch.setattr(coembed.tasks.Contrast, "loss", stops)
    assert align("--checkpoint-every", "10") == 1
    assert "Stopped. The same command goes on" in capsys.readouterr().err
    assert not Path("space", "space.json").exists(), "half a run is no space"
    monkeypatch.setattr(coembed.tasks.Contrast, "loss", real)
    assert align("--checkpoint-every", "7", "--json") == 0
    resumed = out(capsys)
    assert resumed["resumed_at"] == 30
    assert {**resumed, "resumed_at": 0} == whole
    for name, tensor in coembed.Space.load("space").state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert align("--seed", "1") == 1
    assert "space holds another run: fit.seed was None, is 1. Choose another folder" in capsys.readouterr().err
    assert align("--seed", "1", "--restart", "--json") == 0
    assert out(capsys)["resumed_at"] == 0


def test_flags_and_a_run_file_say_the_same(capsys):
    text = """
    towers:
      a: {encoder: good/bytes, kwargs: {seed: 5}, aligner: mlp, train: last:1}
      b: {encoder: good/small, train: none}
    source: {path: pairs.jsonl, towers: {a: a, b: b}, group: group}
    objective: siglip
    dim: 4
    held_out: 0.2
    fit: {steps: 5, batch_size: 16, lr: 1e-2, seed: 3}
    out: from-file
    """
    Path("run.yaml").write_text(text)
    assert main(["align", "run.yaml", "--json"]) == 0
    one = out(capsys)
    flags = [*TOWERS, "--set", "a.seed=5", "--aligner", "a=mlp", "--train", "a=last:1", "--train", "b=none"]
    flags += ["--source", "pairs.jsonl", "--map", "a=a", "--map", "b=b", "--group", "group", "--objective", "siglip"]
    flags += ["--dim", "4", "--held-out", "0.2", "--steps", "5", "--batch-size", "16", "--lr", "1e-2", "--seed", "3"]
    assert main(["align", *flags, "--out", "from-flags", "--json"]) == 0
    two = out(capsys)
    assert {**one, "out": ""} == {**two, "out": ""}
    spaces = [coembed.Space.load(name) for name in ("from-file", "from-flags")]
    assert spaces[0]["a"].train_word == "last:1" and spaces[0].dim == 4
    for left, right in zip(*(space.state_dict().values() for space in spaces), strict=True):
        assert torch.equal(left, right)


def test_flags_go_over_the_run_file(capsys):
    Path("run.yaml").write_text(
        "towers: {a: good/bytes, b: good/small}\nsource: {path: pairs.jsonl}\nfit: {epochs: 9}\n"
    )
    assert main(["align", "run.yaml", "--out", "x", "--steps", "3", "--held-out", "0", "--json"]) == 0
    result = out(capsys)
    assert (result["steps"], result["held_out"], result["figures"]) == (3, 0, {})


def test_several_sources_and_tasks(capsys):
    more = [{"id": f"r{i}", "b": f"{i} B", "c": f"{i} c"} for i in range(60)]
    Path("more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    Path("run.yaml").write_text(
        """
        towers: {a: good/bytes, b: good/small, c: good/small}
        sources: [{path: pairs.jsonl, name: one}, {path: more.jsonl, name: two, rename: {b: b}}]
        tasks:
          - {source: one, towers: [a, b], objective: {name: matryoshka, objective: {name: infonce}, dims: [4, 8]}}
          - {source: two, towers: [b, c], weight: 0.5, same: id}
        fit: {steps: 6, batch_size: 16}
        """
    )
    assert main(["align", "run.yaml", "--out", "x", "--json"]) == 0
    result = out(capsys)
    assert set(result["figures"]) == {"a->b", "b->a", "b->c", "c->b"}
    space = coembed.Space.load("x")
    assert [task["objective"] for task in space.card["runs"][0]["tasks"]] == ["matryoshka", "infonce"]
    assert space["a"].sizes == (4,)


def test_embed_writes_what_encode_gives(capsys):
    assert align(steps=2) == 0
    space = coembed.Space.load("space")
    wanted = space.encode("b", ["SMALL DOG FISH", "RED CAT TREE"], role=None)
    assert main(["embed", "space", "--tower", "b", "docs", "--out", "vectors"]) == 0
    with safe_open("vectors/vectors-00000.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("values"), wanted.values)
        assert file.get_tensor("mask").all()
    ids = [json.loads(line) for line in Path("vectors/ids-00000.jsonl").read_text().splitlines()]
    assert [row["id"] for row in ids] == ["deep/two.txt", "one.txt"]
    assert main(["embed", "space", "--tower", "b", "docs", "--glob", "o*.txt", "--out", "vectors"]) == 0, "again"
    assert len(Path("vectors/ids-00000.jsonl").read_text().splitlines()) == 1


def test_embed_by_an_encoder_from_lines_and_texts(capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("first\n\nthird\r\n"))
    argv = [
        "embed",
        "good/bytes",
        "-",
        "--text",
        "last",
        "--role",
        "query",
        "--set",
        "seed=4",
        "--out",
        "v",
    ]
    assert main([*argv, "--json"]) == 0
    assert out(capsys) == {"count": 3, "skipped": 0, "shards": 1, "out": "v"}
    with safe_open("v/vectors-00000.safetensors", "pt") as file:
        ids = [json.loads(line)["id"] for line in Path("v/ids-00000.jsonl").read_text().splitlines()]
        assert ids == ["stdin#1", "stdin#3", "text#1"]
        wanted = coembed.load("good/bytes", seed=4).encode(["first", "third", "last"], role="query")
        assert torch.equal(file.get_tensor("values"), wanted.values)
    assert main(["embed", "good/bytes", "--text", "x", "--json"]) == 0
    (row,) = out(capsys)["rows"]
    assert row["vectors"][0] == pytest.approx(coembed.load("good/bytes").encode(["x"]).vectors[0].tolist())


def test_queries_are_never_guessed(capsys):
    assert align(steps=2) == 0
    assert main(["index", "space", "--tower", "b", "docs"]) == 0
    capsys.readouterr()
    argv = ["search", "space", "--from", "a", "--to", "b", "--json"]

    def labels(*queries):
        assert main([*argv, *queries]) == 0
        captured = capsys.readouterr()
        return [query["query"] for query in json.loads(captured.out)["queries"]], captured.err

    assert labels("docs/one.txt") == (
        ["docs/one.txt"],
        "docs/one.txt is searched for as it stands; write @docs/one.txt to read the file of that name\n",
    )
    assert labels("@docs/one.txt", "--file", "docs/deep/two.txt") == (["docs/one.txt", "docs/deep/two.txt"], "")
    assert labels("@@home") == (["@home"], "")
    as_text, as_file = main([*argv, "docs/one.txt"]), main([*argv, "@docs/one.txt"])
    assert as_text == as_file == 0
    first, second = (
        json.loads(part + "}") for part in capsys.readouterr().out.strip().removesuffix("}").split("\n}\n")
    )
    assert first["queries"][0]["hits"] != second["queries"][0]["hits"]


def test_an_encoder_of_files_takes_paths_as_queries(capsys, monkeypatch):
    from coembed.cli.search import read
    from coembed.testing import toy_encoder

    class Pictures(type(toy_encoder())):
        @classmethod
        def samples(cls):
            return [b"not a string"]

        def read(self, path):
            return [path.read_bytes(), b"second"]

    encoder = toy_encoder()
    encoder.__class__ = Pictures
    assert [label for label, _ in read("docs/one.txt", encoder)] == ["docs/one.txt#1", "docs/one.txt#2"]
    with pytest.raises(FileNotFoundError, match="no such file; items of modality text are read from files"):
        read("a red cat", encoder)


def test_an_index_older_than_its_space_is_told(capsys):
    assert align(steps=2) == 0
    assert main(["index", "space", "--tower", "b", "docs"]) == 0
    argv = ["search", "space", "--from", "a", "--to", "b", "x"]
    capsys.readouterr()
    assert main(argv) == 0
    assert "warning" not in capsys.readouterr().err
    assert align("--restart", steps=9) == 0
    capsys.readouterr()
    assert main(argv) == 0
    assert "space/index/b was made before the space was trained anew" in capsys.readouterr().err
    assert main(["search", "space", "--from", "b", "--to", "a", "--index", "space/index/b", "x"]) == 1
    assert "is an index of tower b, not of a" in capsys.readouterr().err


def test_eval_by_a_registered_name_and_with_labels(capsys):
    assert align(steps=2) == 0
    capsys.readouterr()
    argv = ["eval", "space", "--source", "pairs.jsonl", "--json"]
    assert main([*argv, "--set", "ks=[3]", "--intervals", "10"]) == 0
    captured = capsys.readouterr()
    row = json.loads(captured.out)["figures"]["a->b"]
    assert "R@3" in row and "R@1" not in row and len(row["MRR_interval"]) == 2
    assert "if the space was trained on this source, these figures flatter it" in captured.err
    assert main([*argv, "--eval", "infonce"]) == 1
    assert "infonce is an objective, but an eval is needed" in capsys.readouterr().err
    assert main([*argv, "--set", "kss=[3]"]) == 1
    assert "no such key 'kss'; did you mean ks" in capsys.readouterr().err


def test_a_trained_space_can_be_pushed(capsys, monkeypatch):
    pushed = []

    def push(space, repo, *, private, token):
        pushed.append((list(space), repo, private))
        return f"hub://{repo}"

    monkeypatch.setattr("coembed.hub.push", push)
    assert align("--push", "us/words", steps=2) == 0
    assert pushed == [(["a", "b"], "us/words", True)]
    assert "Uploaded to hub://us/words" in capsys.readouterr().err
