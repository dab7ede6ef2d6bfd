"""Limits: bytes, seconds, requests a minute, requests that wait; and clients that leave."""

from __future__ import annotations

import asyncio
import time

from coembed_serve.app import make
from coembed_serve.limits import CLIENTS, Rate
from coembed_serve.settings import Settings

ASKED = {"tower": "text", "text": "a"}


def test_a_body_is_counted_whether_or_not_it_says_its_length(serve):
    client = serve(body=10_000)
    big = {"file": ("x.png", b"0" * 20_000)}
    said = client.post("/api/search/file", files=big, data={"tower": "image"})
    assert said.status_code == 413 and said.json()["expected"] == 10_000

    def chunks():
        yield from (b" " * 5_000 for _ in range(4))

    silent = client.post("/api/search", content=chunks(), headers={"content-type": "application/json"})
    assert silent.status_code == 413
    assert client.post("/api/search", json=ASKED).status_code == 200
    assert client.post("/api/search", content=b"{}", headers={"content-length": "-1"}).status_code == 413


def test_too_many_searches_of_a_client_are_told_when_to_come_back(serve):
    client = serve(rate=12)  # two at once, then one in five seconds
    codes = [client.post("/api/search", json=ASKED).status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    answer = client.post("/api/search", json=ASKED)
    assert 1 <= int(answer.headers["retry-after"]) <= 5 and "12 requests a minute" in answer.json()["detail"]
    assert client.get("/api/towers").status_code == 200  # what costs nothing is not counted


def test_the_memory_of_clients_is_bounded():
    rate = Rate(60)
    for at in range(CLIENTS + 500):
        rate.wait(str(at))
    assert len(rate._left) == CLIENTS


def slow(app, seconds):
    """Let the model take its time."""
    batcher = app.state.serving.batcher
    run = batcher.run

    def late(key, items):
        time.sleep(seconds)
        return run(key, items)

    batcher.run = late


def test_an_answer_that_takes_too_long_is_given_up(serve):
    client = serve(seconds=0.2)
    slow(client.app, 1.0)
    began = time.monotonic()
    answer = client.post("/api/search", json=ASKED)
    assert answer.status_code == 504 and "0.2 s" in answer.json()["detail"] and "retry-after" in answer.headers
    assert time.monotonic() - began < 0.9


def request(app, body, gone=None):
    """One search over bare ASGI; `gone` is when the client leaves."""
    sent = []

    async def receive():
        if not receive.done:
            receive.done = True
            return {"type": "http.request", "body": body, "more_body": False}
        await (gone.wait() if gone is not None else asyncio.Event().wait())
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    receive.done = False
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    headers.append((b"content-length", str(len(body)).encode()))
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": "/api/search", "raw_path": b"/api/search", "query_string": b"", "root_path": ""}
    scope |= {"headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {}}
    return app(scope, receive, send), sent


BODY = b'{"tower": "text", "text": "a", "to": ["text"]}'


def test_a_full_queue_says_so_and_who_waits_is_served(library):
    async def main():
        app = make(library, Settings(rate=0, queue=3, batch=1, layout="pca"))
        slow(app, 0.05)
        async with app.router.lifespan_context(app):
            asked = [request(app, BODY) for _ in range(12)]
            await asyncio.gather(*(run for run, _ in asked))
            return [next(m for m in sent if m["type"] == "http.response.start") for _, sent in asked]

    starts = asyncio.run(main())
    codes = [start["status"] for start in starts]
    assert 3 <= codes.count(200) <= 5 and codes.count(503) == 12 - codes.count(200)
    assert all((b"retry-after", b"1") in start["headers"] for start in starts if start["status"] == 503)


def test_who_leaves_is_not_worked_for(library):
    async def main():
        app = make(library, Settings(rate=0, batch=1, layout="pca"))
        seen = []
        run = app.state.serving.batcher.run

        def noted(key, items):
            seen.append([item.item for item in items])
            time.sleep(0.2)
            return run(key, items)

        app.state.serving.batcher.run = noted
        async with app.router.lifespan_context(app):
            gone = asyncio.Event()
            first = asyncio.create_task(request(app, BODY)[0])
            await asyncio.sleep(0.1)
            leaving, sent = request(app, BODY.replace(b'"a"', b'"left"'), gone)
            second = asyncio.create_task(leaving)
            await asyncio.sleep(0.05)
            assert app.state.serving.batcher.depth == 1
            gone.set()
            await second
            assert app.state.serving.batcher.depth == 0 and not sent
            await first
        return seen

    assert asyncio.run(main()) == [["a"]]
