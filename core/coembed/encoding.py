"""The engine under `encode`: distinct items once, sorted by tokens, without padding where the encoder offers it.

On a CPU every batch is computed by one thread, and several batches at once: that is faster than several threads on one
batch, and the kernels then give a row the same bits whatever stands beside it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import torch
from torch import nn

from coembed import native
from coembed.arguments import items_list
from coembed.embedding import Embedding
from coembed.encoder import Encoder, OnError
from coembed.items import BadItem, describe
from coembed.native.inference import kernels
from coembed.packed import LEAST, Pack, PackedEncoder, Row
from coembed.progress import bar

Finish = Callable[[Embedding], Embedding]

TOKENS = 128  # of an item of ordinary length: a batch without padding holds as many tokens as `batch_size` such items
CACHED = 2048  # tokens at most on a CPU by torch: more leave the cache, and their memory is fresh for every operation
LARGE = 100_000_000  # parameters from which on one batch is work enough for all threads
AHEAD = 2  # batches in flight for each thread


@dataclass
class Outcome:
    """What became of one batch: rows of the positions kept, and the items that were refused."""

    kept: list[int]
    rows: Embedding | None
    bad: list[BadItem] = field(default_factory=list)


def run(
    encoder: Encoder,
    items: Sequence[Any],
    finish: Finish,
    *,
    layer: int | None = None,
    prompt: str = "",
    batch_size: int = 32,
    progress: bool = False,
    on_error: OnError = "raise",
) -> list[tuple[list[int], Embedding]]:
    """Items through the encoder and `finish` (token features to rows): (positions, rows on the CPU) by batch."""
    items_list(items, encoder.spec.name)
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    copies = _copies(items)
    work = _Work(encoder, items, finish, layer, prompt, on_error == "raise")
    parts: list[tuple[list[int], Embedding]] = []
    training = encoder.training
    encoder.eval()
    try:
        with _workers(encoder) as submit, bar(f"encode {encoder.spec.name}", len(items), progress) as advance:
            for size, outcome in submit(work.jobs(list(copies), batch_size)):
                for error in outcome.bad:
                    for position in copies[error.position]:
                        moved = error.at(position)
                        if on_error == "raise":
                            raise moved from error.__cause__
                        on_error(moved)
                if outcome.rows is not None:
                    parts.append((outcome.kept, outcome.rows))
                    again = [(row, p) for row, kept in enumerate(outcome.kept) for p in copies[kept][1:]]
                    if again:
                        parts.append(([p for _, p in again], outcome.rows[[row for row, _ in again]]))
                advance(sum(len(copies[position]) for position in size))
    finally:
        encoder.train(training)
    return parts


def _copies(items: Sequence[Any]) -> dict[int, list[int]]:
    """The first position of every distinct item, and all positions of it; only plain items are compared."""
    first: dict[Any, int] = {}
    copies: dict[int, list[int]] = {}
    for position, item in enumerate(items):
        same = (type(item), item) if isinstance(item, (str, bytes, PathLike)) else (None, position)
        copies.setdefault(first.setdefault(same, position), []).append(position)
    return copies


@dataclass
class _Work:
    """Batches of one call, and what is done with each."""

    encoder: Encoder
    items: Sequence[Any]
    finish: Finish
    layer: int | None
    prompt: str
    strict: bool  # the first bad item ends it all

    def jobs(self, positions: list[int], batch_size: int) -> Iterator[tuple[list[int], Callable[[], Outcome]]]:
        """The batches, longest items first: memory runs out at once or never."""
        if isinstance(self.encoder, PackedEncoder) and self.encoder.packs:
            yield from self._packed_jobs(self.encoder, positions, batch_size)
            return
        sizes = {position: self._size(position) for position in positions}
        order = sorted(positions, key=lambda position: -sizes[position])
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            yield some, lambda some=some: self._padded(some)  # type: ignore[misc]

    def _packed_jobs(
        self, encoder: PackedEncoder, positions: list[int], batch_size: int
    ) -> Iterator[tuple[list[int], Callable[[], Outcome]]]:
        rows, bad = self._read(positions, encoder.tokenize)
        if bad:
            refused = [error.position for error in bad]
            yield refused, lambda: Outcome([], None, bad)
        order = sorted(rows, key=lambda position: -len(rows[position]))
        budget, some, tokens = batch_size * TOKENS, list[int](), 0
        if encoder.device.type == "cpu" and not native.features() & native.TILES:
            budget = min(budget, CACHED)
        for position in order:
            if some and tokens + len(rows[position]) > budget:
                yield some, lambda some=some: self._packed(encoder, some, rows)  # type: ignore[misc]
                some, tokens = [], 0
            some.append(position)
            tokens += len(rows[position])
        if some:
            yield some, lambda: self._packed(encoder, some, rows)

    def _read(
        self, positions: list[int], read: Callable[[Sequence[Any], str], list[Row]]
    ) -> tuple[dict[int, Row], list[BadItem]]:
        bad: list[BadItem] = []
        left = list(positions)
        while left:
            try:
                return dict(zip(left, read([self.items[i] for i in left], self.prompt), strict=True)), bad
            except Exception as error:
                bad.append(self._blame(left, error, lambda item: read([item], self.prompt)))
            if self.strict:
                break
            left.remove(bad[-1].position)
        return {}, bad

    def _packed(self, encoder: PackedEncoder, positions: list[int], rows: dict[int, Row]) -> Outcome:
        chosen = [rows[position] for position in positions]
        pack = Pack.of([len(row) for row in chosen])
        hidden, found, at = torch.tensor(encoder.hidden_tokens(chosen, self.prompt)), list[Embedding](), 0
        with torch.inference_mode():
            for values in pack.split(encoder.read_packed(chosen, pack, self.layer)):
                own, at = hidden[at : at + len(values), None], at + len(values)
                mask = (torch.arange(values.shape[1]) >= own).to(values.device)
                found.append(self._finished(Embedding(values, mask, encoder.sizes)))
            return self._checked(positions, Embedding.cat(found))

    def _padded(self, positions: list[int]) -> Outcome:
        kept, bad, batch = list(positions), list[BadItem](), None
        while kept and batch is None:
            try:
                batch = self.encoder.collate([self.items[i] for i in kept], self.prompt)
            except Exception as error:
                bad.append(self._blame(kept, error, lambda item: self.encoder.collate([item], self.prompt)))
                if self.strict:
                    return Outcome([], None, bad)
                kept.remove(bad[-1].position)
        if batch is None:
            return Outcome([], None, bad)
        with torch.inference_mode():
            device = self.encoder.device
            tokens: Embedding = self.encoder({k: v.to(device, non_blocking=True) for k, v in batch.items()}, self.layer)
            outcome = self._checked(kept, self._finished(tokens))
        return Outcome(outcome.kept, outcome.rows, bad + outcome.bad)

    def _finished(self, tokens: Embedding) -> Embedding:
        """Rows on the CPU; a few rows are filled up by copies, so that heads use the kernels of many rows."""
        count = len(tokens)
        if count < LEAST:
            tokens = tokens[torch.arange(LEAST, device=tokens.values.device) % count]
        rows = self.finish(tokens).to("cpu")
        if rows.values.dtype in (torch.bfloat16, torch.float16):  # a pooling with weights keeps their type
            rows = rows.to(torch.float32)
        return rows if len(rows) == count else rows[:count]

    def _checked(self, kept: list[int], rows: Embedding) -> Outcome:
        """Refuse NaN and infinity here, where the item is still known."""
        if rows.values.sum().isfinite():  # one pass over wide rows; a sum that is finite has only finite terms
            return Outcome(kept, rows)
        fine = (rows.values.isfinite().all(-1) | ~rows.mask).all(1)
        mask, expected = rows.mask & fine[:, None], "an item whose embedding is finite, not NaN"
        at = [kept[row] for row in (~fine).nonzero().flatten().tolist()]
        bad = [BadItem(position, describe(self.items[position]), expected) for position in at]
        return Outcome(kept, Embedding(rows.values.masked_fill(~mask[..., None], 0), mask, rows.sizes), bad)

    def _blame(self, positions: list[int], error: Exception, alone: Callable[[Any], Any]) -> BadItem:
        """Which item an exception is about: the one that it names, or the one that also fails alone."""
        if isinstance(error, BadItem):
            return error.at(positions[error.position])
        for position in positions:
            try:
                alone(self.items[position])
            except Exception as own:
                wanted = f"an item of modality {self.encoder.spec.modality} ({type(own).__name__}: {own})"
                bad = BadItem(position, describe(self.items[position]), wanted)
                bad.__cause__ = own
                return bad
        raise error  # no item fails alone: the fault is in the batching

    def _size(self, position: int) -> int:
        try:
            return self.encoder.size(self.items[position])
        except Exception:  # a bad item: collate will say what is wrong with it
            return 0


Jobs = Iterator[tuple[list[int], Callable[[], Outcome]]]
_lock = threading.Lock()
_within = 0  # calls that hold torch to one thread
_before = 1


@contextmanager
def _workers(encoder: nn.Module) -> Iterator[Callable[[Jobs], Iterator[tuple[list[int], Outcome]]]]:
    """A way to run jobs, several at once, whose outcomes come in the order of the jobs."""
    tensor = next(encoder.parameters(), None)
    on_cpu = tensor is None or tensor.device.type == "cpu"
    if on_cpu and sum(p.numel() for p in encoder.parameters()) >= LARGE:
        yield lambda jobs: ((size, job()) for size, job in jobs)
        return
    with _one_thread(on_cpu) as threads, ThreadPoolExecutor(threads if on_cpu else 2) as pool:
        # On a GPU the second worker reads and collates while the first waits for the device.
        most = AHEAD * (threads if on_cpu else 2)

        def work(job: Callable[[], Outcome]) -> Outcome:
            with kernels() if on_cpu else nullcontext():
                return job()

        def submit(jobs: Jobs) -> Iterator[tuple[list[int], Outcome]]:
            waiting: deque[tuple[list[int], Future[Outcome]]] = deque()
            try:
                for size, job in jobs:
                    waiting.append((size, pool.submit(work, job)))
                    if len(waiting) >= most:
                        size, done = waiting.popleft()
                        yield size, done.result()
                while waiting:
                    size, done = waiting.popleft()
                    yield size, done.result()
            finally:
                for _, unwanted in waiting:
                    unwanted.cancel()

        yield submit


@contextmanager
def _one_thread(wanted: bool) -> Iterator[int]:
    """Hold torch to one thread an operation, in this process, until the last call that wants it ends."""
    global _within, _before
    if not wanted:
        yield 1
        return
    with _lock:
        if _within == 0:
            _before = torch.get_num_threads()
            torch.set_num_threads(1)
        _within += 1
        threads = _before
    try:
        yield threads
    finally:
        with _lock:
            _within -= 1
            if _within == 0:
                torch.set_num_threads(_before)
