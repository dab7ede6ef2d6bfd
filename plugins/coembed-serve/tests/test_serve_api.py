"""What the API finds, shows and refuses."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from coembed import Space, load
from coembed.embedding import Embedding
from coembed.index import Exact
from coembed_serve.library import open_library


def found(answer):
    """Ids of the hits by index."""
    assert answer.status_code == 200, answer.text
    return {part["index"]: [hit["id"] for hit in part["hits"]] for part in answer.json()["found"]}


def problem(answer, status):
    """The body of an error, after a look at its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    body = answer.json()
    assert body["status"] == status and body["detail"]
    return body


def test_a_text_finds_itself_and_something_of_every_index(client):
    answer = client.post("/api/search", json={"tower": "text", "text": "an old tree", "k": 2})
    hits = found(answer)
    assert hits["text"][0] == "text/2"
    assert set(hits) == {"text", "image", "code", "audio", "dna", "protein", "graph"}
    assert all(len(ids) == 2 for ids in hits.values())
    stand = [part["standout"] for part in answer.json()["found"]]
    assert stand == sorted(stand, reverse=True)


@pytest.mark.parametrize(("tower", "text"), [("code", "class A:\n    pass"), ("dna", "GGGCCCAAATTT" * 4)])
def test_typed_items_are_read_by_the_tower_that_is_named(client, tower, text):
    assert found(client.post("/api/search", json={"tower": tower, "text": text}))[tower][0] == f"{tower}/1"


def test_a_search_can_be_confined(client):
    asked = {"tower": "text", "text": "a red heart", "to": ["text", "image"], "where": "n > 1", "k": 3}
    hits = found(client.post("/api/search", json=asked))
    assert set(hits) == {"text", "image"}
    assert set(hits["text"]) == {"text/2", "text/3", "text/4"} and hits["image"] == []


def test_an_indexed_item_finds_itself_by_its_vector(client):
    hits = found(client.post("/api/search", json={"like": {"index": "graph", "id": "graph/1"}, "k": 1}))
    assert hits["graph"] == ["graph/1"]


def test_a_picture_a_sound_and_a_sequence_find_themselves(client, shop):
    picture = sorted((shop / "media").glob("*.png"))[0]
    hits = found(
        client.post("/api/search/file", files={"file": (picture.name, picture.read_bytes())}, data={"tower": "image"})
    )
    shown = client.get("/api/items/image", params={"id": hits["image"][0]}).json()
    assert shown["payload"]["path"].endswith(picture.name)
    sound = (shop / "media" / "1.wav").read_bytes()
    hits = found(client.post("/api/search/file", files={"file": ("x.wav", sound)}, data={"tower": "audio"}))
    assert hits["audio"][0] == "audio/1"
    fasta = f">one\n{'ATGGCATTACGATCG' * 3}\n>two\n{'GGGCCCAAATTT' * 4}\n".encode()
    given = {"tower": "dna", "item": "2", "to": ["dna"]}
    answer = client.post("/api/search/file", files={"file": ("x.fasta", fasta)}, data=given)
    assert found(answer) == {"dna": ["dna/1", *found(answer)["dna"][1:]]} and answer.json()["items"] == 2


@pytest.mark.parametrize(
    ("name", "content", "tower", "words"),
    [
        ("notes.png", b"these are words", "image", ["notes.png"]),
        ("empty.png", b"", "image", ["empty.png", "empty"]),
        ("cut.wav", b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio", ["cut.wav"]),
        ("odd.fasta", b">x\n!!!!\n", "dna", ["odd.fasta"]),
        ("../../evil.py", b"\xff\xfe\x00", "code", ["evil.py"]),
        ("bad.json", b"{", "graph", ["bad.json"]),
    ],
)
def test_a_bad_file_is_named_with_what_was_expected(client, name, content, tower, words):
    answer = client.post("/api/search/file", files={"file": (name, content)}, data={"tower": tower})
    body = problem(answer, 422)
    assert all(word in body["detail"] for word in words), body
    assert body["expected"] and body["item"] == name.rpartition("/")[2]
    assert "/tmp" not in answer.text and "coembed-serve-" not in answer.text  # where it lay is nobody's business


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(serve):
    client, buffer = serve(pixels=10_000), io.BytesIO()
    Image.new("RGB", (200, 200)).save(buffer, "PNG")
    answer = client.post("/api/search/file", files={"file": ("wide.png", buffer.getvalue())}, data={"tower": "image"})
    assert "200 x 200" in problem(answer, 413)["detail"]


def test_a_sound_that_is_too_long_is_refused_by_its_head(serve, shop):
    sound = (shop / "media" / "1.wav").read_bytes()
    answer = serve(sound=0.1).post("/api/search/file", files={"file": ("x.wav", sound)}, data={"tower": "audio"})
    assert "x.wav" in problem(answer, 413)["detail"]


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"tower": "txt", "text": "a"}, 422, "text, image"),
        ({"text": "a"}, 422, "name the tower"),
        ({"tower": "image", "text": "a"}, 422, "a file of modality image"),
        ({"tower": "text", "text": "  "}, 422, "empty"),
        ({"tower": "text"}, 422, "give `text`"),
        ({"tower": "text", "text": "a", "to": ["pictures"]}, 404, "there is no index 'pictures'"),
        ({"tower": "text", "text": "a", "k": 0}, 422, "greater than or equal"),
        ({"tower": "text", "text": "a", "k": 10_000}, 422, "1 to 100"),
        ({"tower": "text", "text": "a", "where": "import os"}, 422, "where"),
        ({"tower": "text", "text": "a", "role": "chef"}, 422, "no role 'chef'"),
        ({"tower": "text", "text": "a", "kk": 3}, 422, "kk"),
        ({"tower": "text", "text": "a" * 30_000}, 413, "at most 20,000"),
        ({"like": {"index": "text", "id": "none"}}, 404, "no item 'none'"),
    ],
)
def test_what_can_not_be_asked_is_said(client, asked, status, words):
    assert words in problem(client.post("/api/search", json=asked), status)["detail"]


def test_towers_items_and_unknown_paths(client):
    about = client.get("/api/towers").json()
    assert [tower["name"] for tower in about["towers"] if not tower["strings"]] == ["image", "audio", "graph"]
    assert {index["name"]: index["items"] for index in about["indexes"]}["image"] == 12
    item = client.get("/api/items/dna", params={"id": "dna/2"}).json()
    assert item["payload"] == {"dna": "ATATATATCGCG" * 5} and item["kind"] == "dna"
    problem(client.get("/api/items/dna", params={"id": "dna/9"}), 404)
    problem(client.get("/nothing"), 404)
    problem(client.get("/static/../app.py"), 404)


def test_an_unforeseen_fault_tells_no_internals(serve, monkeypatch):
    client = serve()
    monkeypatch.setattr(client.app.state.serving.map, "facts", lambda: 1 / 0)
    body = problem(client.get("/api/map"), 500)
    assert "division" not in json.dumps(body)


def test_the_description_has_examples_and_every_path(client):
    described = client.get("/openapi.json").json()
    paths = described["paths"]
    assert {"/api/search", "/api/search/file", "/api/towers", "/api/map", "/health", "/metrics"} <= set(paths)
    assert described["components"]["schemas"]["Search"]["examples"][0]["text"] == "a red heart"
    assert {"413", "422", "429", "503"} <= set(paths["/api/search"]["post"]["responses"])


def test_health_and_metrics(client):
    assert client.get("/health").json()["status"] == "ok"
    for _ in range(3):
        client.post("/api/search", json={"tower": "text", "text": "a"})
    client.get("/made/up/path")
    text = client.get("/metrics").text
    assert 'coembed_requests_total{path="/api/search",status="200"} 3.0' in text
    assert 'coembed_items{index="image"} 12.0' in text
    assert "coembed_batch_size_count" in text and "made/up" not in text


def test_an_index_says_its_tower_or_is_told(shop, tmp_path):
    space = Space.load(shop / "space")
    index = Exact()
    index.add(["x"], Embedding.from_vectors(space.encode("text", ["x"]).vectors))
    index.save(tmp_path / "index")
    with pytest.raises(ValueError, match="give it as TOWER="):
        open_library(space, shop / "space", [str(tmp_path / "index")])
    opened = open_library(space, shop / "space", [f"text={tmp_path / 'index'}", str(shop / "space/index/text")])
    assert list(opened.shelves) == ["text", "text-2"]
    index.meta["tower"] = "smell"
    index.save(tmp_path / "other")
    with pytest.raises(ValueError, match="index of tower smell"):
        open_library(space, shop / "space", [str(tmp_path / "other")])


def test_deleted_rows_are_gone_and_others_keep_their_ids(shop, tmp_path):
    space = Space.load(shop / "space")
    index = space.index("text", [str(i) for i in range(6)], payloads=list(range(6)))
    index.save(tmp_path / "index")
    index.delete(["0", "3"])
    index.save(tmp_path / "index")
    shelf = open_library(space, shop / "space", [str(tmp_path / "index")]).shelves["text"]
    assert [shelf.id(row) for row in range(len(shelf))] == ["1", "2", "4", "5"]
    assert [shelf.row(name) for name in ("0", "1", "4", "5", "9")] == [None, 0, 2, 3, None]
    assert [shelf.payload(row, 32) for row in range(4)] == [1, 2, 4, 5]


def test_the_source_of_the_pictures_is_real():
    assert next(iter(load("samples/emoji")))["image"].size == (32, 32)
