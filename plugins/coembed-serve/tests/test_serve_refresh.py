"""Indexes that another process changes while they are served."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coembed import Space
from coembed.index import open_index
from coembed_serve import library as module
from coembed_serve import serving as parts
from coembed_serve.library import open_library

# Adds, replaces and deletes rows, each time with a state of the index on disk.
WRITER = """
import sys, torch
from coembed import Embedding
from coembed.index import open_index
for turn in range(40):
    index = open_index(sys.argv[1])
    x = Embedding.from_vectors(torch.nn.functional.normalize(torch.randn(3, index.dim), dim=1))
    index.update([f"new/{turn}", "text/0", "text/1"], x, [{"text": f"turn {turn}"}] * 3)
    if turn:
        index.delete([f"new/{turn - 1}"])
    index.save(sys.argv[1])
"""


@pytest.fixture
def place(shop, tmp_path):
    """A copy of the shop's space that a test may change."""
    shutil.copytree(shop / "space", tmp_path / "space")
    return tmp_path / "space"


@pytest.fixture
def client(serve, place):
    return serve(library=open_library(Space.load(place), place, []))


def command(*argv):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "coembed", *argv], check=True, capture_output=True, env=environment)


def search(client, text="a green door", to=("text",)):
    answer = client.post("/api/search", json={"tower": "text", "text": text, "to": list(to), "k": 10})
    assert answer.status_code == 200, answer.text
    return [hit["payload"]["text"] for hit in answer.json()["found"][0]["hits"]]


def touched(place, change):
    """Change the text index as another process would, quickly."""
    index = open_index(place / "index" / "text")
    change(index)
    index.save(place / "index" / "text")


def test_the_next_request_sees_what_another_process_added_and_deleted(client, place):
    assert "a green door" not in search(client)
    command("index", "add", str(place), "--tower", "text", "--text", "a green door")
    assert search(client)[0] == "a green door"
    assert {part["name"]: part["items"] for part in client.get("/api/towers").json()["indexes"]}["text"] == 6
    assert 'coembed_items{index="text"} 6.0' in client.get("/metrics").text
    assert client.get("/api/items/text", params={"id": "text/2"}).status_code == 200
    command("index", "delete", str(place), "--tower", "text", "text/2")
    assert client.get("/api/items/text", params={"id": "text/2"}).status_code == 404
    assert "an old tree" not in search(client, "an old tree") and len(search(client)) == 5


def test_no_request_fails_while_another_process_writes(client, place):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(place / "index" / "text")]) as writer:

        def ask(number):
            answers = []
            while writer.poll() is None:
                if number % 2:
                    body = {"like": {"index": "text", "id": "text/3"}, "k": 10}
                    answers.append(client.post("/api/search", json=body))
                else:
                    answers.append(client.get("/api/items/text", params={"id": "text/0"}))
            return answers

        with ThreadPoolExecutor(3) as pool:
            answers = [answer for some in pool.map(ask, range(3)) for answer in some]
    assert writer.returncode == 0 and len(answers) > 10
    assert {answer.status_code for answer in answers} == {200}
    turns = {json.dumps(answer.json()) for answer in answers if "payload" in answer.json()}
    assert len(turns) > 3, "states between the first and the last were seen too"
    assert search(client, "a red heart").count("turn 39") == 3 and len(search(client)) == 6


def test_one_thread_opens_and_all_others_are_served_what_was_there(client, place, monkeypatch):
    opening, go, opened = threading.Event(), threading.Event(), []

    def slow(folder):
        opened.append(folder)
        opening.set()
        assert go.wait(30)
        return open_index(folder)

    monkeypatch.setattr(module, "open_index", slow)
    touched(place, lambda index: index.delete(["text/2"]))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(search, client)
        assert opening.wait(30)
        assert [len(search(client)) for _ in range(3)] == [5, 5, 5] and not first.done()
        go.set()
        assert len(first.result(30)) == 4
    assert len(search(client)) == 4 and opened == [place / "index" / "text"]


def test_what_can_not_be_taken_leaves_the_one_before(client, place, caplog):
    facts = place / "index" / "text" / "index.json"
    good = facts.read_text()
    facts.with_name("part-x.json").write_text(good.replace('"version": "', '"version": "x').replace("part-", "lost-"))
    facts.with_name("part-x.json").replace(facts)
    assert len(search(client)) == 5 and "served as it was before" in caplog.text
    caplog.clear()
    assert len(search(client)) == 5 and not caplog.text, "it is said once"
    shutil.move(place / "index" / "text", place / "elsewhere")
    assert len(search(client)) == 5
    shutil.move(place / "elsewhere", place / "index" / "text")
    facts.write_text(good)
    touched(place, lambda index: index.delete(["text/2"]))
    assert len(search(client)) == 4
    for name, said in (("state", "trained anew"), ("tower", "of tower 'other' now")):
        touched(place, lambda index, name=name: index.meta.update({"tower": "text", "state": None, name: "other"}))
        touched(place, lambda index: index.delete(index.ids[:1]))
        assert len(search(client)) == 4 and said in caplog.text


def test_a_changed_index_is_drawn_anew_and_points_of_the_map_before_are_not_mixed_up(client, place, monkeypatch):
    def facts(edition):
        for _ in range(200):
            found = client.get("/api/map").json()
            if found["state"] == "ready" and found["edition"] == edition:
                return found
            asyncio.run(asyncio.sleep(0.05))
        raise AssertionError(found)

    monkeypatch.setattr(parts, "PAUSE", 0.0)
    first = facts(1)
    touched(place, lambda index: index.delete(["text/2"]))
    second = facts(2)
    assert second["count"] == first["count"] - 1 and second["revision"] > first["revision"]
    assert client.get("/api/map/items/0", params={"edition": 1}).status_code == 409
    numbers = range(second["count"])
    items = [client.get(f"/api/map/items/{number}", params={"edition": 2}).json() for number in numbers]
    assert [item["point"] for item in items] == list(numbers)
    answer = client.post("/api/search", json={"tower": "text", "text": "a red heart", "k": 10}).json()
    points = {hit["point"]: (part["index"], hit["id"]) for part in answer["found"] for hit in part["hits"]}
    assert answer["edition"] == 2
    assert all((items[point]["index"], items[point]["id"]) == named for point, named in points.items())


def test_looking_for_changes_costs_no_reading(client, monkeypatch):
    def never(*given):
        raise AssertionError("nothing has changed")

    monkeypatch.setattr(module, "read_facts", never)
    monkeypatch.setattr(module, "open_index", never)
    assert len(search(client)) == 5
