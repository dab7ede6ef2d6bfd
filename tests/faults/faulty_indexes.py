"""Faults of indexes."""

from __future__ import annotations

from dataclasses import replace

import torch
from planted import ANY, COMPONENT, breaks

from coembed import Embedding
from coembed.index import Exact


def _number(name):
    """The number in an id; 1 for an id without."""
    return int("".join(filter(str.isdigit, name)) or 1)


class Right(Exact):
    """The exact index under the name of the plugin."""

    kind = COMPONENT


class Approximate(Exact):
    """Misses every fifth row, and says so: a right index that is not exact."""

    kind = "faulty/approximate"
    recall = 0.6

    def search(self, q, k=10, where=None):
        return [[hit for hit in hits if _number(hit.id) % 5] for hits in super().search(q, k, where)]


class Changed(Right):
    """Its hits changed."""

    def search(self, q, k=10, where=None):
        return [self.change(hits) for hits in super().search(q, k, where)]


@breaks("index", "finds_the_nearest", "hits are not sorted")
class GivesTheWorstFirst(Changed):
    def change(self, hits):
        return hits[::-1]


@breaks("index", "finds_the_nearest", "states recall = 1.0", also=ANY)
class MissesSome(Changed):
    def change(self, hits):
        return [hit for hit in hits if _number(hit.id) % 3]


@breaks("index", "finds_the_nearest", "another item's payload", also=("filters", "updates"))
class MixesPayloads(Right):
    def add(self, ids, x, payloads=None, **options):
        super().add(ids, x, payloads[::-1] if payloads else None, **options)


@breaks("index", "finds_the_nearest", "scores are not the similarities")
class GivesDistances(Changed):
    def change(self, hits):
        return [replace(hit, score=hit.score - 1) for hit in hits]


@breaks("index", "finds_the_nearest", "k = 205 gave 100 hits")
class StopsAtAHundred(Changed):
    def change(self, hits):
        return hits[:100]


@breaks("index", "finds_the_nearest", "it has 205", also=ANY)
class Miscounts(Right):
    def __len__(self):
        return super().__len__() + 5 if super().__len__() > 100 else super().__len__()

    def search(self, q, k=10, where=None):
        other = Right()
        other.__dict__.update(self.__dict__)
        return other.search(q, k, where)


@breaks("index", "filters", "are not among what it allows", also=("filters_to_few",))
class IgnoresFilters(Right):
    def search(self, q, k=10, where=None):
        return super().search(q, k)


@breaks("index", "filters", "states recall = 1.0", also=("filters_to_few", "works_when_small"))
class FiltersWhatItFound(Right):
    def search(self, q, k=10, where=None):
        allowed = [{hit.id for hit in hits} for hits in super().search(q, len(self), where)]
        hits = super().search(q, k)
        return [[hit for hit in row if hit.id in some] for row, some in zip(hits, allowed, strict=True)]


@breaks("index", "loads_what_it_saved", "gives an index with other hits")
class LosesPayloads(Right):
    @classmethod
    def load(cls, folder):
        index = super().load(folder)
        for part in index._sealed:
            part.rows.payload = lambda row: None
        return index


@breaks("index", "loads_what_it_saved", "gives meta {}")
class LosesMeta(Right):
    @classmethod
    def load(cls, folder):
        index = super().load(folder)
        index.meta = {}
        return index


@breaks("index", "loads_what_it_saved", "rows of 200, or others", also=("goes_on_from_disk",))
class LosesRows(Right):
    @classmethod
    def load(cls, folder):
        index = super().load(folder)
        index.delete(index.ids[:3])
        return index


@breaks("index", "loads_what_it_saved", "open_index can't read what save wrote")
class SavesUnderAnotherName(Exact):
    kind = "faulty/other"


@breaks("index", "deletes", "deleted items are found again", also=("updates",))
class KeepsWhatIsDeleted(Right):
    def delete(self, ids):
        for name in ids:
            if name not in self:
                raise KeyError(name)


@breaks("index", "deletes", "was refused removed something")
class DeletesUpToTheFault(Right):
    def delete(self, ids):
        for name in ids:
            super().delete([name])


@breaks("index", "deletes", "an id that is not there was accepted")
class DeletesWhatItCan(Right):
    def delete(self, ids):
        super().delete([name for name in ids if name in self])


@breaks("index", "refuses_bad_rows", "NaN was accepted")
class MendsNaN(Right):
    def add(self, ids, x, payloads=None, **options):
        super().add(ids, replace(x, values=x.values.nan_to_num()), payloads, **options)


@breaks("index", "refuses_bad_rows", "another width was accepted")
class CutsToWidth(Right):
    def add(self, ids, x, payloads=None, **options):
        super().add(ids, replace(x, values=x.values[..., :16]), payloads, **options)


@breaks("index", "refuses_bad_rows", "a taken id was accepted")
class Replaces(Right):
    def add(self, ids, x, payloads=None, **options):
        self.delete([name for name in ids if name in self])
        super().add(ids, x, payloads, **options)


@breaks("index", "refuses_bad_rows", "left something behind")
class AddsBeforeItChecks(Right):
    def add(self, ids, x, payloads=None, **options):
        if not x.values.isfinite().all():
            super().add(ids, replace(x, values=torch.ones_like(x.values)), payloads, **options)
        super().add([f"{name}" for name in ids], x, payloads, **options)


@breaks("index", "updates", "it has 200", also=("goes_on_from_disk",))
class UpdatesWhatIsThere(Right):
    def update(self, ids, x, payloads=None):
        rows = [i for i, name in enumerate(ids) if name in self]
        super().update([ids[i] for i in rows], x[rows], None if payloads is None else [payloads[i] for i in rows])


@breaks("index", "updates", "not found by its new vector")
class KeepsTheOld(Right):
    def update(self, ids, x, payloads=None):
        rows = [i for i, name in enumerate(ids) if name not in self]
        super().update([ids[i] for i in rows], x[rows], None if payloads is None else [payloads[i] for i in rows])


@breaks("index", "updates", "removed the old row")
class DeletesFirst(Right):
    def update(self, ids, x, payloads=None):
        self.delete([name for name in ids if name in self])
        self.add(ids, x, payloads)


@breaks("index", "ranks_multivectors", "states recall = 1.0", also=ANY)
class AveragesVectors(Right):
    def add(self, ids, x, payloads=None, **options):
        super().add(ids, x.pool(), payloads, **options)

    def search(self, q, k=10, where=None):
        return super().search(Embedding.from_vectors(q.pool().vectors), k, where)
