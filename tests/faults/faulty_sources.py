"""A right source, and faults of others."""

from __future__ import annotations

import random
from dataclasses import replace

from planted import ANY, breaks

from coembed.sources import Record, Records, Source

RECORDS = [Record({"text": f"word {i}", "code": f"f({i})"}, id=f"r{i}", group=f"g{i // 2}") for i in range(16)]


class Pairs(Source):
    """Sixteen records in eight groups."""

    def __iter__(self):
        return iter(RECORDS)


@breaks("source", "iterates_again", "the second 0", also=("splits_by_group", "counts_and_indexes"))
class RunsOut(Pairs):
    def __init__(self):
        self.left = iter(RECORDS)

    def __iter__(self):
        return self.left


@breaks("source", "iterates_again", "in one order", also=ANY)
class Shuffles(Pairs):
    def __iter__(self):
        return iter(random.sample(RECORDS, len(RECORDS)))


@breaks("source", "iterates_again", "in one order")
class RewritesItems(Pairs):
    passes = 0

    def __iter__(self):
        self.passes += 1
        return (replace(r, items={"text": f"{r['text']} {self.passes}", "code": r["code"]}) for r in RECORDS)


@breaks("source", "iterates_again", "gives no record", also=("counts_and_indexes", "splits_by_group"))
class GivesNothing(Pairs):
    def __iter__(self):
        return iter(())


@breaks("source", "counts_and_indexes", "len() says 17", also=("splits_by_group",))
class Miscounts(Pairs):
    def __len__(self):
        return 17


@breaks("source", "counts_and_indexes", "is not what iteration gives at 0")
class CountsFromOne(Pairs):
    def __getitem__(self, position):
        return RECORDS[position - 1]


@breaks("source", "counts_and_indexes", "the id 'same' occurs twice", also=("splits_by_group",))
class RepeatsIds(Pairs):
    def __iter__(self):
        return (replace(record, id="same") for record in RECORDS)


@breaks("source", "counts_and_indexes", "towers says text, audio")
class NamesOtherTowers(Pairs):
    towers = ("text", "audio")


@breaks("source", "splits_by_group", "is on both sides")
class SplitsInsideGroups(Pairs):
    def split(self, held_out=0.1, seed=0):
        return Records(RECORDS[::2]), Records(RECORDS[1::2])


@breaks("source", "splits_by_group", "are lost")
class LosesGroups(Pairs):
    def split(self, held_out=0.1, seed=0):
        train, held = super().split(held_out, seed)
        return Records(list(train)[:-2]), held


@breaks("source", "splits_by_group", "the same seed splits differently")
class SplitsAtRandom(Pairs):
    def split(self, held_out=0.1, seed=0):
        return super().split(held_out, random.choice([s for s in range(100) if s != seed]))


@breaks("source", "splits_by_group", "split(0.5) fails")
class HasOneGroup(Pairs):
    def __iter__(self):
        return (replace(record, group="all") for record in RECORDS)
