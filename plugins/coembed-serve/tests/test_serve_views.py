"""Items of every kind as what they are, and nothing that users wrote as markup."""

from __future__ import annotations

import networkx as nx
import pytest

from coembed_serve import graphs, views


def test_each_kind_has_its_own_look(client):
    def shown(index, id):
        item = client.get(f"/api/items/{index}", params={"id": id}).json()
        return item["view"] or client.get("/" + item["view_at"]).text

    assert shown("text", "text/0") == '<p class="text">a red heart</p>'
    assert shown("image", "image/0").startswith('<img src="api/media/image?id=image%2F0&amp;side=256" alt="')
    assert '<span class="k">def</span>' in shown("code", "code/0")
    assert '<i class="A">A</i><i class="T">T</i>' in shown("dna", "dna/0")
    assert 'class="plus"' in shown("protein", "protein/0")
    assert "a syntax tree" in shown("graph", "graph/0") and "a graph of 5 nodes and 5 edges" in shown(
        "graph", "graph/1"
    )
    sound = shown("audio", "audio/0")
    assert "a waveform" in sound and 'src="api/media/audio?id=audio%2F0"' in sound and "data:" not in sound


def test_files_come_as_they_are_and_pictures_small(client, serve, shop):
    whole = client.get("/api/media/audio", params={"id": "audio/0"})
    assert whole.headers["content-type"] in ("audio/x-wav", "audio/wav", "audio/vnd.wave")
    assert whole.content == (shop / "media" / "0.wav").read_bytes()
    part = client.get("/api/media/audio", params={"id": "audio/0"}, headers={"Range": "bytes=0-3"})
    assert part.status_code == 206 and part.content == b"RIFF"  # what a player needs to seek
    picture = client.get("/api/media/image", params={"id": "image/0", "side": 256})
    assert picture.headers["content-type"] == "image/png"
    withheld = serve(media=()).get("/api/items/image", params={"id": "image/0"}).json()
    assert withheld["withheld"] and withheld["media"] is None and withheld["view"] is None


def test_a_large_picture_is_sent_small(tmp_path):
    from PIL import Image

    from coembed_serve.media import thumbnail
    from coembed_serve.problems import Problem

    Image.effect_noise((1500, 1000), 90).convert("RGB").save(tmp_path / "large.png")
    data, kind = thumbnail(tmp_path / "large.png", 256, 10**7)
    assert kind == "image/jpeg" and len(data) < 64_000
    with pytest.raises(Problem, match="1500 x 1000"):
        thumbnail(tmp_path / "large.png", 256, 10**6)


EVIL = '<img src=x onerror="alert(1)">'


@pytest.mark.parametrize("kind", ["text", "code", "dna", "protein", "smell"])
def test_what_users_wrote_is_never_markup(kind):
    assert "<img" not in views.view(kind, kind, {"text": EVIL})
    assert '"' not in views.picture(EVIL, "api?id=1").split('alt="')[1].split('" loading')[0]


def test_names_in_graphs_are_never_markup():
    graph = {"nodes": [{"id": 0, "text": EVIL}, {"id": 1, "text": EVIL}], "edges": [{"source": 0, "target": 1}]}
    assert "<img" not in graphs.drawing(graph)
    assert "<img" not in graphs.drawing({**graph, "graph": {"root": 0}})


@pytest.mark.parametrize(
    "graph",
    [
        nx.cycle_graph(4),
        nx.DiGraph([(0, 1), (1, 0)]),
        {"nodes": [{"id": i} for i in range(500)], "links": [{"source": i, "target": i + 1} for i in range(499)]},
        {"graph": {"root": 0}, "nodes": [{"id": 0}, {"id": 1}], "edges": [{"source": 1, "target": 1}]},
        {  # so deep that drawing it as a tree would exhaust the stack
            "graph": {"root": 0},
            "nodes": [{"id": i} for i in range(900)],
            "edges": [{"source": i, "target": i + 1} for i in range(899)],
        },
    ],
)
def test_any_graph_is_drawn(graph):
    assert graphs.drawing(graph).startswith("<svg")


@pytest.mark.parametrize("graph", [None, 3, {}, {"nodes": []}, {"nodes": [1]}, {"nodes": [{"id": 1}], "edges": [2]}])
def test_what_is_no_graph_is_not(graph):
    assert graphs.drawing(graph)


def test_items_of_a_file_are_shown_one_by_one(client, shop, library, serve, tmp_path):
    from coembed_serve.library import open_library

    fasta = shop / "media" / "two.fasta"
    fasta.write_text(">a\nAAAA\n>b\nCCCCGG\n")
    space = library.space
    ids = [f"{fasta}#1", f"{fasta}#2"]
    space.index("dna", ["AAAA", "CCCCGG"], ids=ids, payloads=[{"path": str(fasta)}] * 2).save(tmp_path / "index")
    client = serve(library=open_library(space, shop / "space", [str(tmp_path / "index")]))
    item = client.get("/api/items/dna", params={"id": ids[1]}).json()
    assert item["view"] is None
    assert '<i class="C">CCCC</i><i class="G">GG</i>' in client.get("/" + item["view_at"]).text
    fasta.unlink()


def test_what_is_long_comes_when_it_is_looked_at(client, library, shop, serve, tmp_path):
    from coembed_serve.library import open_library

    code = "\n".join(["x=1+1"] * 40)
    library.space.index("code", [code], ids=["x"], payloads=[{"text": code}]).save(tmp_path / "index")
    client = serve(library=open_library(library.space, shop / "space", [str(tmp_path / "index")]))
    hit = client.post("/api/search", json={"tower": "code", "text": code}).json()["found"][0]["hits"][0]
    assert hit["view"] is None and not hit["withheld"]
    assert client.get("/" + hit["view_at"]).text.count(">x<") == 40


def test_captions_and_long_payloads():
    assert views.caption("id", {"name": "  a\n name "}) == "a name"
    assert len(views.caption("id", "x" * 500)) == views.SHORT
    assert views.plain({"a": 1}) == {"a": 1} and views.plain("x" * 9000)["cut"]
