"""BM25 over the texts that an index keeps: the same scores, nothing counted twice, never stale."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from coembed import Embedding
from coembed.index import Exact, writing
from coembed_retrieval import BM25, StoredBM25
from coembed_retrieval.tokens import NAMED, words

TEXTS = ["a red cat", "the blue dog and the cat", "bread and butter", "", "Cat cat CAT", "日本語 cat"]
QUERIES = ["cat", "the cat", "cat cat", "bread unknown", "日本", "nothing of it", ""]


def rows(count):
    return Embedding.from_vectors(torch.randn(count, 4))


def filled(texts=TEXTS):
    index = Exact()
    payloads = [{"text": text, "n": i} for i, text in enumerate(texts)]
    index.add([str(i) for i in range(len(texts))], rows(len(texts)), payloads)
    return index


def plain(index):
    """BM25 of the same texts, counted anew."""
    ids, _, payloads = zip(*((name, None, payload) for names, _, some in index.batches()
                             for name, payload in zip(names, some, strict=True)), strict=True)  # fmt: skip
    texts = [payload.get("text") if isinstance(payload, dict) else payload for payload in payloads]
    kept = [at for at, text in enumerate(texts) if isinstance(text, str)]
    made = BM25()
    made.add([ids[at] for at in kept], [texts[at] for at in kept], [payloads[at] for at in kept])
    return made


def same(found, wanted):
    for some, other in zip(found, wanted, strict=True):
        assert [hit.id for hit in some] == [hit.id for hit in other]
        assert [hit.score for hit in some] == pytest.approx([hit.score for hit in other], rel=1e-5)
        assert [hit.payload for hit in some] == [hit.payload for hit in other]


@pytest.fixture
def counted(monkeypatch):
    """The texts that are taken apart, one after another."""
    seen = []
    monkeypatch.setitem(NAMED, "words", lambda text: seen.append(text) or words(text))
    return seen


def test_hits_are_those_of_bm25_over_all_segments_less_what_is_deleted(tmp_path):
    index = filled()
    index.save(tmp_path / "i")
    for turn, texts in enumerate((["a cat on bread", "the the"], ["dog"], ["no cat", "butter cat"])):
        index.add([f"{turn}-{i}" for i in range(len(texts))], rows(len(texts)), texts)  # a payload that is a text
        index.save(tmp_path / "i")
    index.add(["absent", "other"], rows(2), [None, {"text": 3}])  # rows without a text do not count
    index = Exact.load(tmp_path / "i")
    found = StoredBM25(index)
    same(found.retrieve(QUERIES), plain(index).retrieve(QUERIES))
    index.delete(["0", "1-0"])
    same(found.retrieve(QUERIES, k=2), plain(index).retrieve(QUERIES, k=2))
    assert len(found) == len(index) == 9
    for where in ("n < 3", ["2", "4", "0"], lambda payload: isinstance(payload, str)):
        same(found.retrieve(["the cat"], where=where), plain(index).retrieve(["the cat"], where=where))


def test_another_process_counts_nothing_again(tmp_path, counted):
    filled().save(tmp_path / "i")
    first = StoredBM25(Exact.load(tmp_path / "i"), folder=tmp_path / "w").retrieve(QUERIES)
    assert set(TEXTS) <= set(counted)
    counted.clear()
    again = StoredBM25(Exact.load(tmp_path / "i"), folder=tmp_path / "w")
    assert again.retrieve(QUERIES) == first and counted == QUERIES
    assert not {path.suffix for path in (tmp_path / "w").iterdir()} - {".safetensors", ".json", ""}


def test_a_changed_index_is_never_met_by_old_words(tmp_path, counted):
    index = filled()
    index.save(tmp_path / "i")
    StoredBM25(index, folder=tmp_path / "w").retrieve(["cat"])
    index.delete(["0"])
    index.add(["new"], rows(1), [{"text": "one more cat"}])
    index.save(tmp_path / "i")
    counted.clear()
    index = Exact.load(tmp_path / "i")
    found = StoredBM25(index, folder=tmp_path / "w").retrieve(QUERIES)
    assert counted == ["one more cat", *QUERIES], "of rows, only the new one"
    same(found, plain(index).retrieve(QUERIES))
    filled(["cat", "dog"]).save(tmp_path / "i")  # another index in its place
    index = Exact.load(tmp_path / "i")
    same(StoredBM25(index, folder=tmp_path / "w").retrieve(QUERIES), plain(index).retrieve(QUERIES))
    assert len(list((tmp_path / "w").glob("*.safetensors"))) == 1, "words of what is gone go too"


def test_what_is_added_and_not_saved_is_found(tmp_path):
    index = filled()
    found = StoredBM25(index, folder=tmp_path / "w")
    assert [hit.id for hit in found.retrieve(["butter"])[0]] == ["2"]
    index.add(["new"], rows(1), ["more butter"])
    assert {hit.id for hit in found.retrieve(["butter"])[0]} == {"2", "new"}
    assert not (tmp_path / "w").exists(), "words are kept by the files that they are of"


def test_other_words_and_damage_mean_counting_anew(tmp_path, monkeypatch):
    index = filled(["parse_header", "plain words"])
    index.save(tmp_path / "i")
    assert not StoredBM25(index, folder=tmp_path / "w").retrieve(["header"])[0]
    assert StoredBM25(index, folder=tmp_path / "w", tokenize="code").retrieve(["header"])[0]
    for path in (tmp_path / "w").glob("*.safetensors"):
        path.write_bytes(b"damaged")
    for _ in range(2):
        assert StoredBM25(index, folder=tmp_path / "w", tokenize="code").retrieve(["header"])[0]
    monkeypatch.setattr("coembed_retrieval.stored.TOKENS", 2)
    monkeypatch.setitem(NAMED, "code", lambda text: ["all"])
    assert len(StoredBM25(index, folder=tmp_path / "w", tokenize="code").retrieve(["x"])[0]) == 2
    (tmp_path / "w" / "index.json").write_text("{")
    assert len(StoredBM25(index, folder=tmp_path / "w", tokenize="code").retrieve(["x"])[0]) == 2


def test_a_place_that_is_taken_is_left_alone(tmp_path):
    index = filled()
    index.save(tmp_path / "i")
    filled(["another"]).save(tmp_path / "other")
    (tmp_path / "file").write_text("mine")
    for place in ("other", "file"):
        assert StoredBM25(index, folder=tmp_path / place).retrieve(["butter"])[0][0].id == "2"
    assert Exact.load(tmp_path / "other").ids == ["0"] and (tmp_path / "file").read_text() == "mine"
    own = StoredBM25(index, tokenize=str.split, folder=tmp_path / "own")  # which function, no folder can say
    assert own.retrieve(["butter"])[0][0].id == "2" and not (tmp_path / "own").exists()


def test_while_another_process_writes_words_are_counted_all_the_same(tmp_path):
    index = filled()
    index.save(tmp_path / "i")
    text = "import sys\nfrom coembed.index import writing\nwith writing(sys.argv[1]):\n print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", text, str(tmp_path / "w")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:  # fmt: skip
        assert other.stdout.readline()
        found = StoredBM25(index, folder=tmp_path / "w").retrieve(["butter"])[0]
        other.communicate(b"\n")
    assert found[0].id == "2" and other.returncode == 0
    with writing(tmp_path / "w") as writer:
        assert writer.version() is None


def test_bad_arguments_are_named():
    found = StoredBM25(filled())
    with pytest.raises(TypeError, match="wrap it"):
        found.retrieve("cat")
    with pytest.raises(ValueError, match="k is 0"):
        found.retrieve(["cat"], k=0)
    with pytest.raises(ValueError, match="'words' or 'code'"):
        StoredBM25(filled(), tokenize="wrods")
    assert StoredBM25(Exact()).retrieve(["cat"]) == [[]] and len(StoredBM25(Exact())) == 0
