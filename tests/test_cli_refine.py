"""coembed search --not and --hybrid."""

from __future__ import annotations

import json
import sys

import pytest

import coembed
import coembed.index
from coembed.cli import main

pytest.importorskip("coembed_retrieval")
TEXTS = ["a red cat", "a blue dog", "bread and butter", "zyx"]


@pytest.fixture(autouse=True)
def space(fakes, tmp_path, monkeypatch):
    fakes("good")
    monkeypatch.chdir(tmp_path)
    coembed.Space({"a": "good/bytes", "b": "good/bytes"}).save("space")
    texts = [word for text in TEXTS for word in ("--text", text)]
    assert main(["index", "space", "--tower", "b", *texts]) == 0


def hits(capsys, *more):
    capsys.readouterr()
    assert main(["search", "space", "--from", "a", "--to", "b", "--json", *more]) == 0
    return [(hit["payload"]["text"], hit["score"]) for hit in json.loads(capsys.readouterr().out)["queries"][0]["hits"]]


def test_hybrid_puts_shared_words_first_and_takes_filters(capsys):
    found = hits(capsys, "zyx or butter", "--hybrid")
    assert {text for text, _ in found} == set(TEXTS), "what shares no word is found by its vector"
    assert {text for text, _ in found[:2]} == {"zyx", "bread and butter"}
    assert found[0][1] <= 2 / 61 + 1e-9, "scores are those of reciprocal ranks"
    assert [text for text, _ in hits(capsys, "zyx", "--hybrid", "--where", "text == 'a red cat'")] == ["a red cat"]
    assert len(hits(capsys, "zyx", "--hybrid", "-k", "1")) == 1


def test_hybrid_counts_words_once_and_follows_the_index(capsys, monkeypatch):
    from coembed_retrieval import tokens

    seen = []
    monkeypatch.setitem(tokens.NAMED, "words", lambda text: seen.append(text) or tokens.words(text))
    first = hits(capsys, "zyx or butter", "--hybrid")
    assert sorted(seen) == sorted([*TEXTS, "zyx or butter"])
    seen.clear()
    assert hits(capsys, "zyx or butter", "--hybrid") == first and seen == ["zyx or butter"]
    assert main(["index", "add", "space", "--tower", "b", "--text", "butter, butter"]) == 0
    seen.clear()
    found = hits(capsys, "zyx or butter", "--hybrid", "--index", "space/index/b")
    assert seen == ["butter, butter", "zyx or butter"] and "butter, butter" in [text for text, _ in found[:3]]
    assert main(["index", "info", "space"]) == 0, "what is kept beside an index is not taken for one"
    coembed.Space({"a": "good/bytes", "b": "good/bytes"}).save("space")


def test_not_projects_out_what_is_undesired(capsys):
    from coembed_retrieval import project_out

    space = coembed.Space.load("space")
    rows = project_out(space.encode("a", ["a dog, a cat"]), space.encode("a", ["a cat", "cats"]))
    index = coembed.index.open_index("space/index/b")
    wanted = [(hit.payload["text"], pytest.approx(hit.score, abs=1e-6)) for hit in index.search(rows)[0]]
    assert hits(capsys, "a dog, a cat", "--not", "a cat", "--not", "cats") == wanted
    assert hits(capsys, "a dog, a cat") != wanted


def test_mistakes_are_named(capsys, monkeypatch):
    argv = ["search", "space", "--from", "a", "--to", "b", "x"]
    hits(capsys, "a cat", "--not", "a cat")
    assert main([*argv[:-1], "a cat", "--not", "a cat"]) == 0
    assert "nothing is left of a query" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["search", "--vectors", "v", "--index", "space/index/b", "--hybrid"])
    assert "does not go with --vectors" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "coembed_retrieval.pipeline", None)
    assert main([*argv, "--hybrid"]) == 1
    assert "coembed install retrieval" in capsys.readouterr().err
