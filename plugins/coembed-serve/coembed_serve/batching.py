"""Dynamic batching: what arrives within a few milliseconds, or while the model is busy, is answered together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

Run = Callable[[Hashable, Sequence[Any]], Sequence[Any]]


class Full(Exception):
    """More is waiting than the queue may hold."""


@dataclass(eq=False)
class _Waiting:
    key: Hashable
    item: Any
    since: float
    future: asyncio.Future[Any]


class Batcher:
    """Collects questions of one key (a tower and its role) into batches for one worker thread.

    `run(key, items)` gives a result, or an exception, for each item. The oldest question decides whose turn it is, so
    that no key starves another; it waits at most `wait` seconds for company, none if the model was busy meanwhile. Who
    gives up waiting (cancelled) is not asked for. Raises Full when `queue` questions wait.

    >>> async def two() -> list[int]:
    ...     async with Batcher(lambda key, items: [item * len(items) for item in items]) as batcher:
    ...         return await asyncio.gather(batcher.ask("k", 1), batcher.ask("k", 2))
    >>> asyncio.run(two())
    [2, 4]
    """

    def __init__(self, run: Run, *, most: int = 32, wait: float = 0.004, queue: int = 256) -> None:
        self.run, self.most, self.wait, self.queue = run, most, wait, queue
        self.on_batch: Callable[[int, float], None] = lambda size, seconds: None
        self.busy_since: float | None = None
        self._waiting: deque[_Waiting] = deque()
        self._some = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="coembed-serve")
        self._task: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def ask(self, key: Hashable, item: Any) -> Any:
        """The result for one item; raises what `run` gave for it, and Full."""
        if len(self._waiting) >= self.queue:
            raise Full(f"{len(self._waiting)} requests wait already")
        loop = asyncio.get_running_loop()
        entry = _Waiting(key, item, loop.time(), loop.create_future())
        self._waiting.append(entry)
        self._some.set()
        try:
            return await entry.future
        finally:
            if entry.future.cancelled():
                with suppress(ValueError):  # it may be in the worker's hands already
                    self._waiting.remove(entry)

    async def __aenter__(self) -> Batcher:
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        for entry in self._waiting:
            entry.future.cancel()
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some.wait()
            await self._collect()
            batch = self._take()
            if not batch:
                continue
            self.busy_since = began = loop.time()
            try:
                found = await loop.run_in_executor(self._worker, self.run, batch[0].key, [e.item for e in batch])
            except Exception as error:  # a fault of one batch must not end all others
                found = [error] * len(batch)
            finally:
                self.busy_since = None
            self.on_batch(len(batch), loop.time() - began)
            for entry, result in zip(batch, found, strict=True):
                if entry.future.done():
                    continue
                if isinstance(result, Exception):
                    entry.future.set_exception(result)
                else:
                    entry.future.set_result(result)

    async def _collect(self) -> None:
        """Wait for company until the oldest has waited long enough, or there is a whole batch."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            first = self._waiting[0]
            left = first.since + self.wait - loop.time()
            if left <= 0 or sum(entry.key == first.key for entry in self._waiting) >= self.most:
                return
            await asyncio.sleep(left)

    def _take(self) -> list[_Waiting]:
        """The oldest question and those like it, in the order they came."""
        batch: list[_Waiting] = []
        if self._waiting:
            key = self._waiting[0].key
            batch = [entry for entry in self._waiting if entry.key == key][: self.most]
            taken = set(map(id, batch))
            self._waiting = deque(entry for entry in self._waiting if id(entry) not in taken)
        if not self._waiting:
            self._some.clear()
        return batch
