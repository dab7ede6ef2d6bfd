"""Limits that hold before any work is done: bytes of a body, seconds until an answer, requests a minute."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coembed_serve.problems import Problem
from coembed_serve.settings import Settings

CLIENTS = 10_000  # whose use is remembered


class Rate:
    """A token bucket for each client: `rate` a minute, ten seconds' worth of them at once; 0 is no limit.

    >>> now = [0.0]
    >>> rate = Rate(6, lambda: now[0])
    >>> rate.wait("a"), rate.wait("a"), rate.wait("b")
    (0.0, 10.0, 0.0)
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.clock = rate / 60, clock
        self.most = max(1.0, rate / 6)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (left, when)

    def wait(self, client: str, cost: float = 1.0) -> float:
        """Seconds until the client may ask again; 0 if it may now, and then it is counted."""
        if not self.rate:
            return 0.0
        now = self.clock()
        left, then = self._left.pop(client, (self.most, now))
        left = min(self.most, left + (now - then) * self.rate)
        allowed = left >= min(cost, self.most)
        self._left[client] = (left - cost if allowed else left, now)
        while len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if allowed else (min(cost, self.most) - left) / self.rate


class Limits:
    """ASGI: refuses bodies that are too long, ends what takes too long, and work whose client has gone."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.settings.body:
            return await self._too_long().response()(scope, receive, send)
        await _Exchange(self, scope, receive, send).run()

    def _too_long(self) -> Problem:
        most = self.settings.body
        return Problem(413, f"the body is too large: at most {most:,} bytes are taken", item="body", expected=most)


class _Exchange:
    """One request: its body counted as it comes, its client watched, its answer in time."""

    def __init__(self, limits: Limits, scope: Scope, receive: Receive, send: Send) -> None:
        self.limits, self.scope, self.send = limits, scope, send
        self._receive = receive
        self._body: asyncio.Queue[Message] = asyncio.Queue(1)
        self._taken = 0
        self._began = False
        self._gone = asyncio.Event()

    async def run(self) -> None:
        seconds = self.limits.settings.seconds
        pump = asyncio.create_task(self._pump())
        work = asyncio.create_task(self._work())
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait({work, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and self._began and not self._gone.is_set():
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)  # a long answer may take its time
            if work.done():
                work.result()  # raises what the application raised
                return
            await _end(work)
            if not self._gone.is_set() and not self._began:
                problem = Problem(504, f"no answer within {seconds:g} s", retry_after=seconds)
                await problem.response()(self.scope, self._next, self.send)
        finally:
            for task in (pump, gone, work):
                await _end(task)

    async def _work(self) -> None:
        await self.limits.app(self.scope, self._next, self._sent)

    async def _pump(self) -> None:
        """Read ahead by one message, so as to see a client leave while its request is worked on."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone.set()
                return
            await self._body.put(message)

    async def _next(self) -> Message:
        message = asyncio.create_task(self._body.get())
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait({message, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not message.done():
                return {"type": "http.disconnect"}
            found = message.result()
        finally:
            message.cancel()
            gone.cancel()
        self._taken += len(found.get("body", b""))
        if self._taken > self.limits.settings.body:
            raise self.limits._too_long()
        return found

    async def _sent(self, message: Message) -> None:
        self._began = True
        await self.send(message)


async def _end(task: asyncio.Task[object]) -> None:
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
