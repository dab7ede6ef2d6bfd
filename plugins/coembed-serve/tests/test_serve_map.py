"""The map: where points lie, which items they are, when a layout is made anew."""

from __future__ import annotations

import asyncio
import importlib.util

import numpy as np
import pytest
import torch

from coembed import Space
from coembed.index import Exact, Index
from coembed_serve import layout
from coembed_serve.library import Library, open_library
from coembed_serve.maps import Map
from coembed_serve.settings import Settings
from coembed_serve.shelves import Shelf, gives_vectors


def ready(client):
    for _ in range(100):
        facts = client.get("/api/map").json()
        if facts["state"] not in ("waiting", "working"):
            return facts
        asyncio.run(asyncio.sleep(0.05))
    raise AssertionError(facts)


def test_every_point_is_one_item_and_knows_its_index(client, library):
    facts = ready(client)
    assert (facts["state"], facts["method"], facts["count"]) == ("ready", "PCA", len(library))
    raw = client.get("/api/map/points").content
    assert len(raw) == 5 * len(library)
    kinds = np.frombuffer(raw, dtype=np.uint8, offset=4 * len(library))
    items = [client.get(f"/api/map/items/{number}").json() for number in range(len(library))]
    assert len({(item["index"], item["id"]) for item in items}) == len(library)
    names = [part["name"] for part in facts["indexes"]]
    assert [names[kind] for kind in kinds] == [item["index"] for item in items]
    assert [item["point"] for item in items] == list(range(len(library)))
    assert client.get(f"/api/map/items/{len(library)}").status_code == 404


def test_hits_say_where_they_lie(client):
    ready(client)
    found = client.post("/api/search", json={"tower": "text", "text": "an old tree", "k": 1}).json()["found"]
    hit = next(part for part in found if part["index"] == "text")["hits"][0]
    assert client.get(f"/api/map/items/{hit['point']}").json()["id"] == hit["id"] == "text/2"


def test_a_large_space_is_drawn_in_part_each_index_its_share(library):
    drawn = Map(library, Settings(points=16, layout="pca"))
    asyncio.run(drawn.make())
    facts = drawn.facts()
    assert facts["count"] <= 16 + len(facts["indexes"])
    assert min(part["count"] for part in facts["indexes"]) >= 1
    some = [drawn.item(number) for number in range(facts["count"])]
    assert [drawn.number(shelf, row) for shelf, row in some] == list(range(facts["count"]))
    shelf = library.shelves["image"]
    shown = {row for each, row in some if each is shelf}
    assert all(drawn.number(shelf, row) is None for row in set(range(12)) - shown)


def test_pca_is_the_same_every_time_and_keeps_the_widest_direction():
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 3, 1, 1, 1, 1, 1, 1])
    plane = layout.pca(x)
    assert np.array_equal(plane, layout.pca(x))
    assert abs(np.corrcoef(plane[:, 0], x[:, 0])[0, 1]) > 0.99 and abs(np.corrcoef(plane[:, 1], x[:, 1])[0, 1]) > 0.95
    assert layout.pca(torch.randn(5, 1)).shape == (5, 2)


def test_without_pacmap_the_page_says_what_it_shows(library, monkeypatch):
    monkeypatch.setattr(layout, "available", lambda: False)
    drawn = Map(library, Settings())
    asyncio.run(drawn.make())
    assert drawn.facts()["method"] == "PCA" and "coembed-serve[map]" in drawn.facts()["note"]


def test_a_kept_layout_is_used_until_an_index_changes(shop, tmp_path, monkeypatch):
    space = Space.load(shop / "space")
    folder = tmp_path / "space"
    space.save(folder)
    index = space.index("text", [f"text {n}" for n in range(20)])
    index.save(folder / "index" / "text")
    monkeypatch.setattr(layout, "available", lambda: False)
    first = Map(open_library(space, folder, []), Settings())
    layout.write(first._path(), np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32))
    asyncio.run(first.make())
    assert first.facts()["method"] == "PaCMAP"
    index.delete(["3"])
    index.save(folder / "index" / "text")  # the folder of an index may hold nothing but its own files: it still does
    second = Map(open_library(space, folder, []), Settings())
    asyncio.run(second.make())
    assert second.facts()["method"] == "PCA" and second.count == 19
    first._path().write_bytes(b"damaged")
    assert layout.read(first._path(), 20) is None


def test_too_few_items_are_no_map(shop, tmp_path):
    space = Space.load(shop / "space")
    space.index("text", ["a"]).save(tmp_path / "index")
    drawn = Map(open_library(space, shop / "space", [str(tmp_path / "index")]), Settings())
    asyncio.run(drawn.make())
    assert drawn.facts()["state"] == "none" and "too few" in drawn.facts()["note"]


def test_an_index_that_has_changed_is_not_laid_out_for_the_one_before(shop, tmp_path):
    space = Space.load(shop / "space")
    index = space.index("text", [f"text {n}" for n in range(20)])
    index.save(tmp_path / "index")
    shelf = open_library(space, shop / "space", [str(tmp_path / "index")]).shelves["text"]
    index.delete(["3"])
    index.save(tmp_path / "index")
    with pytest.raises(SystemExit, match="has changed"):
        layout.main([str(tmp_path / "out"), "100", f"{shelf.version}={shelf.folder}"])


@pytest.mark.external
@pytest.mark.skipif(importlib.util.find_spec("pacmap") is None, reason="pip install 'coembed-serve[map]'")
def test_pacmap_runs_in_its_own_process_and_is_kept(shop, tmp_path):
    space = Space.load(shop / "space")
    folder = tmp_path / "space"
    space.save(folder)
    space.index("text", [f"{word} {n}" for n in range(40) for word in ("cat", "dog")]).save(folder / "index" / "text")
    drawn = Map(open_library(space, folder, []), Settings())
    asyncio.run(drawn.make())
    assert drawn.facts()["method"] == "PaCMAP" and drawn.facts()["note"] == "" and drawn.revision == 2
    assert len(list((folder / "map").iterdir())) == 1


class Closed(Index):
    """An index of another kind, which gives no vectors out."""

    kind = "closed"

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def add(self, ids, x, payloads=None, *, skip_absent=False):
        self.inner.add(ids, x, payloads, skip_absent=skip_absent)

    def search(self, q, k=10, where=None):
        return self.inner.search(q, k, where)

    def delete(self, ids):
        self.inner.delete(ids)

    def save(self, folder):
        self.inner.save(folder)

    @classmethod
    def load(cls, folder):
        return cls(Exact.load(folder))

    def __len__(self):
        return len(self.inner)

    @property
    def ids(self):
        return self.inner.ids


def test_an_index_that_gives_no_vectors_is_searched_and_left_off_the_map(serve, library, shop):
    folder = shop / "space" / "index" / "text"
    index = Closed.load(folder)
    assert not gives_vectors(index)
    shelf = Shelf("text", "text", "text", folder, index, "1", gives=False)
    client = serve(library=Library(library.space, shop / "space", [shelf]))
    assert ready(client)["left_out"] == ["text"]
    found = client.post("/api/search", json={"tower": "text", "text": "an old tree", "k": 1}).json()["found"][0]
    assert found["standout"] is None and found["hits"][0]["id"] == "text/2"
    assert client.get("/api/items/text", params={"id": "text/2"}).json()["payload"]["n"] == 2
    refused = client.post("/api/search", json={"like": {"index": "text", "id": "text/2"}})
    assert refused.status_code == 422 and "gives no vectors" in refused.json()["detail"]
