"""Faults of indexes in what they promise beyond finding."""

from __future__ import annotations

from dataclasses import replace

import torch
from faulty_indexes import Right
from planted import ANY, breaks

from coembed.index import Hit, Size


@breaks("index", "works_when_small", "of 1 rows it gave [0, 0, 0, 0] hits", also=ANY)
class NeedsMany(Right):
    def search(self, q, k=10, where=None):
        return super().search(q, k, where) if len(self) > 5 else [[] for _ in range(len(q))]


@breaks("index", "works_when_small", "an empty index gave hits", also=ANY)
class InventsWhenEmpty(Right):
    def search(self, q, k=10, where=None):
        return super().search(q, k, where) if len(self) else [[Hit("?", 0.0)] for _ in range(len(q))]


@breaks("index", "filters_to_few", "of them were found")
class FiltersTheFirstHundred(Right):
    def search(self, q, k=10, where=None):
        if where is None:
            return super().search(q, k)
        allowed = set(self.select(where))
        return [[hit for hit in row if hit.id in allowed][:k] for row in super().search(q, 100)]


@breaks("index", "leaves_out_absent_rows", "an absent row was accepted")
class TakesAbsentRows(Right):
    def add(self, ids, x, payloads=None, *, skip_absent=False):
        super().add(ids, x, payloads, skip_absent=True)


@breaks("index", "leaves_out_absent_rows", "an absent query found something")
class AnswersAbsentQueries(Right):
    def search(self, q, k=10, where=None):
        return super().search(replace(q, mask=torch.ones_like(q.mask)), k, where)


@breaks("index", "refuses_bad_queries", "NaN was searched for")
class SearchesForNaN(Right):
    def search(self, q, k=10, where=None):
        return super().search(replace(q, values=q.values.nan_to_num()), k, where)


@breaks("index", "keeps_equal_rows_apart", "no two of them are one row", also=ANY)
class MergesEqualRows(Right):
    def search(self, q, k=10, where=None):
        kept = []
        for row in super().search(q, k, where):
            first = {}
            for hit in row:
                first.setdefault(hit.score, hit)
            kept.append(list(first.values()))
        return kept


@breaks("index", "keeps_equal_rows_apart", "found more than once", also=ANY)
class FindsTwice(Right):
    def search(self, q, k=10, where=None):
        found = super().search(q, k, where)
        return [row[:1] * (k == 5) + row for row in found]


@breaks("index", "goes_on_from_disk", "saved anew it has")
class SavesOnce(Right):
    def save(self, folder):
        if self._home is None:
            super().save(folder)


@breaks("index", "reports_truly", "its folder has")
class HidesItsBytes(Right):
    def nbytes(self):
        return Size(1000, 1000)


@breaks("index", "reports_truly", "state less", also=ANY)
class GetsWorseWithRows(Right):
    def search(self, q, k=10, where=None):
        found = super().search(q, k, where)
        return [row[::2] for row in found] if len(self) > 1000 else found


@breaks("index", "reports_truly", "it gives no report")
class WontSay(Right):
    def report(self, queries=None, *, sample=100, k=10, exact=None):
        raise ValueError("no")
