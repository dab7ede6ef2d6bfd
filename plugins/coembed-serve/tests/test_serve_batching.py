"""Dynamic batching: the same bits as one by one, in turn, and without those who gave up."""

from __future__ import annotations

import asyncio
import time

import pytest

from coembed.items import BadItem
from coembed_serve.answering import Question, answer
from coembed_serve.batching import Batcher, Full


def test_batched_answers_have_the_bits_of_single_ones(library):
    texts = [f"{word} " * n for n in range(1, 9) for word in ("red heart", "tree", "a long row of words")]
    targets = tuple(library.shelves)
    questions = [Question(text, targets, 3) for text in texts]
    together = answer(library, ("text", None), questions)
    alone = [answer(library, ("text", None), [question])[0] for question in questions]
    assert together == alone  # scores, means and spreads, to the last bit


def test_questions_of_one_batch_may_differ_in_all_but_their_tower(library):
    asked = [
        Question("a red heart", ("text",), 2, "n > 2"),
        Question(7, ("text",), 2),
        Question("a red heart", ("image", "dna"), 1),
        Question("a red heart", ("text",), 2, "n > 'x' and"),
    ]
    first, bad, third, filtered = answer(library, ("text", None), asked)
    assert [hit.id for hit in first[0].hits] != [] and all(hit.payload["n"] > 2 for hit in first[0].hits)
    assert isinstance(bad, BadItem) and bad.position == 0
    assert [part.shelf.name for part in third] == ["image", "dna"]
    assert isinstance(filtered, ValueError)


def test_a_fault_that_nobody_named_is_its_own_items_alone(library, monkeypatch):
    encode = library.space.encode

    def fragile(tower, items, **more):
        if "boom" in items:
            raise RuntimeError("out of luck")
        return encode(tower, items, **more)

    monkeypatch.setattr(library.space, "encode", fragile)
    found = answer(library, ("text", None), [Question(text, ("text",), 1) for text in ("a", "boom", "b")])
    assert [isinstance(each, RuntimeError) for each in found] == [False, True, False]


def test_many_at_once_become_few_batches_in_the_order_they_came():
    batches = []

    def run(key, items):
        batches.append((key, list(items)))
        time.sleep(0.01)
        return [item * 10 for item in items]

    async def main():
        async with Batcher(run, most=4, wait=0.02) as batcher:
            return await asyncio.gather(*(batcher.ask("ab"[n % 2], n) for n in range(12)))

    assert asyncio.run(main()) == [n * 10 for n in range(12)]
    assert batches == [("a", [0, 2, 4, 6]), ("b", [1, 3, 5, 7]), ("a", [8, 10]), ("b", [9, 11])]


def test_who_gives_up_leaves_the_queue():
    seen = []

    def run(key, items):
        time.sleep(0.1)
        seen.extend(items)
        return items

    async def main():
        async with Batcher(run, most=1, wait=0) as batcher:
            first = asyncio.create_task(batcher.ask("k", 1))
            await asyncio.sleep(0.02)
            second = asyncio.create_task(batcher.ask("k", 2))
            await asyncio.sleep(0.02)
            assert batcher.depth == 1
            second.cancel()
            await asyncio.sleep(0)
            assert batcher.depth == 0
            return await first, await batcher.ask("k", 3)

    assert asyncio.run(main()) == (1, 3) and seen == [1, 3]


def test_a_full_queue_refuses_and_a_fault_does_not_stop_the_worker():
    def run(key, items):
        if key == "bad":
            raise RuntimeError("no")
        return [ValueError("this one") if item == 0 else item for item in items]

    async def main():
        async with Batcher(run, wait=0.01, queue=2) as batcher:
            asked = [asyncio.create_task(batcher.ask("k", n)) for n in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Full):
                await batcher.ask("k", 9)
            with pytest.raises(ValueError, match="this one"):
                await asked[0]
            assert await asked[1] == 1
            with pytest.raises(RuntimeError):
                await batcher.ask("bad", 1)
            return await batcher.ask("k", 5)

    assert asyncio.run(main()) == 5
