"""BM25: its formula, its filters, its words, and what comes back from disk."""

from __future__ import annotations

import json
import math

import pytest

from coembed.index import IndexFileError
from coembed_retrieval import BM25
from coembed_retrieval.tokens import code, words

TEXTS = ["a red cat", "the blue dog and the cat", "bread and butter", "", "Cat cat CAT"]
IDS = ["one", "two", "three", "empty", "many"]


def filled(**settings):
    index = BM25(**settings)
    index.add(IDS, TEXTS, [{"n": i, "lang": "de" if i % 2 else "en"} for i in range(len(TEXTS))])
    return index


def test_scores_are_the_formula():
    """Lucene's idf, ln(1 + (N - n + .5) / (n + .5)), times tf / (tf + k1 (1 - b + b len / mean len))."""
    index = filled(k1=1.2, b=0.6)
    tokens = [words(text) for text in TEXTS]
    mean = sum(map(len, tokens)) / len(tokens)
    for query in ("cat", "the cat", "bread unknown"):
        for some, found in zip(tokens, index.scores(query), strict=True):
            wanted = 0.0
            for word in words(query):
                df = sum(word in each for each in tokens)
                tf = some.count(word)
                idf = math.log(1 + (len(tokens) - df + 0.5) / (df + 0.5))
                wanted += idf * tf / (tf + 1.2 * (1 - 0.6 + 0.6 * len(some) / mean)) if df else 0
            assert found == pytest.approx(wanted, rel=1e-5)


def test_hits_share_a_word_and_come_best_first():
    index = filled()
    (found,) = index.retrieve(["cat"], k=10)
    assert [hit.id for hit in found] == ["many", "one", "two"] and found[0].payload == {"n": 4, "lang": "en"}
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert index.retrieve(["nothing of it", ""], k=3) == [[], []]
    assert [hit.id for hit in index.retrieve(["cat"], k=1)[0]] == ["many"]


def test_equal_texts_come_in_the_order_they_were_added():
    index = BM25()
    index.add([str(i) for i in range(50)], ["same words"] * 50)
    assert [hit.id for hit in index.retrieve(["same"], k=7)[0]] == [str(i) for i in range(7)]


def test_where_restricts_and_scores_stay():
    index = filled()
    everything = {hit.id: hit.score for hit in index.retrieve(["the cat"])[0]}
    for where in ("lang == 'de'", ["two"], lambda payload: payload["n"] == 1):
        assert {hit.id: hit.score for hit in index.retrieve(["the cat"], where=where)[0]} == {"two": everything["two"]}


def test_adding_and_deleting_counts_anew():
    index = filled()
    index.delete(["many", "empty"])
    fresh = BM25()
    fresh.add(IDS[:3], TEXTS[:3])
    assert index.scores("cat").tolist() == fresh.scores("cat").tolist() and index.ids == IDS[:3]
    with pytest.raises(KeyError, match="gone"):
        index.delete(["one", "gone"])
    assert len(index) == 3


def test_bad_rows_are_refused_and_nothing_is_added():
    index = filled()
    for ids, texts, payloads, error, said in (
        (["one"], ["x"], None, ValueError, "'one' is there already"),
        (["x", "y"], ["x"], None, ValueError, "1 texts but 2 ids"),
        (["x"], [3], None, TypeError, "a string is expected"),
        (["x"], ["x"], [{1}], ValueError, "can't be kept as JSON"),
        (["x"], "x", None, TypeError, "wrap it"),
    ):
        with pytest.raises(error, match=said):
            index.add(ids, texts, payloads)
    assert index.ids == IDS
    with pytest.raises(TypeError, match="wrap it"):
        index.retrieve("cat")
    with pytest.raises(ValueError, match="b is 2"):
        BM25(b=2)


def test_empty_ones_find_nothing():
    index = BM25()
    assert index.retrieve(["cat"]) == [[]]
    index.add(["a"], ["..."])
    assert index.retrieve(["cat"]) == [[]]


def test_saved_and_loaded_it_gives_the_same_hits(tmp_path):
    index = filled(k1=0.9, name="words")
    index.add(["ü\u2028line"], ["日本語 \U0001f600\nnew line"], [{"nested": [1, {"a": None}], "é": "\ud800"}])
    index.save(tmp_path / "b")
    again = BM25.load(tmp_path / "b")
    assert again.ids == index.ids and (again.k1, again.name) == (0.9, "words")
    assert again.retrieve(["cat", "日本", "new"]) == index.retrieve(["cat", "日本", "new"])
    again.delete(["one"])
    again.save(tmp_path / "b")
    assert len(BM25.load(tmp_path / "b")) == len(index) - 1


def test_damage_and_strange_folders_are_named(tmp_path):
    filled().save(tmp_path / "b")
    facts = json.loads((tmp_path / "b" / "index.json").read_text())
    (tmp_path / "b" / facts["texts"]).write_text("[1")
    with pytest.raises(IndexFileError, match=r"\.jsonl"):
        BM25.load(tmp_path / "b")
    with pytest.raises(IndexFileError, match="not a saved index"):
        BM25.load(tmp_path)


def test_any_item_can_be_counted_by_a_tokenizer_of_its_own(tmp_path):
    def kmers(dna):
        return [dna[i : i + 4] for i in range(len(dna) - 3)]

    index = BM25(tokenize=kmers)
    index.add(["a", "b"], ["ACGTACGTTT", "GGGGCCCCAA"])
    assert [hit.id for hit in index.retrieve(["GGGCCC"])[0]] == ["b"]
    index.save(tmp_path / "k")
    with pytest.raises(ValueError, match="tokenize="):
        BM25.load(tmp_path / "k")
    assert [hit.id for hit in BM25.load(tmp_path / "k", tokenize=kmers).retrieve(["GGGCCC"])[0]] == ["b"]


def test_words_and_code():
    assert words("It's ÉTÉ—twice, 3.5 times_x") == ["it's", "été", "twice", "3", "5", "times_x"]
    assert words("한국어 문장 東京タワー 字") == ["한국어", "문장", "東京", "京タ", "タワ", "ワー", "字"]
    assert code("self.getHTTPResponseCode2(a_b)") == [
        *("self", "gethttpresponsecode2", "get", "http", "response", "code", "2", "a_b", "a", "b")
    ]
    assert code("__init__ = 0x1F") == ["__init__", "0", "x1f", "x", "1", "f"]
    with pytest.raises(ValueError, match="'words' or 'code'"):
        BM25(tokenize="wrods")


def test_parts_of_identifiers_meet_words_of_a_question():
    index = BM25(tokenize="code")
    index.add(["http", "csv"], ["def parseHTTPHeader(line): ...", "def read_csv(path): ..."])
    assert [hit.id for hit in index.retrieve(["how to parse a header"])[0]] == ["http"]
    assert [hit.id for hit in index.retrieve(["Read a CSV"])[0]] == ["csv"]
