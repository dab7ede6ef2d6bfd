"""A batch of questions answered: encoded together, searched together, each as if it were alone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from coembed.embedding import Embedding, similarity
from coembed.index import Hit
from coembed.items import BadItem
from coembed_serve.library import Library
from coembed_serve.shelves import Shelf

Key = tuple[str | None, str | None]  # tower and role; (None, None): vectors that are there already


@dataclass(frozen=True, eq=False)
class Question:
    """An item of a tower, or ready vectors `[1, T, D]`; where to search, how many hits, which payloads."""

    item: Any
    targets: tuple[str, ...]
    k: int
    where: str | None = None


@dataclass(frozen=True)
class Found:
    """Hits in one index as it was then, and how its scores usually lie: mean and spread, None if not known."""

    shelf: Shelf
    hits: Sequence[Hit]
    mean: float | None
    spread: float | None

    def standout(self, score: float) -> float | None:
        """How far a score stands out, in standard deviations: scores of two modalities do not compare.

        >>> Found(None, [], 0.1, 0.2).standout(0.5)
        2.0
        """
        return None if self.mean is None or not self.spread else (score - self.mean) / self.spread


def answer(library: Library, key: Hashable, questions: Sequence[Question]) -> list[list[Found] | Exception]:
    """What each question finds, or the error that it has; the bits do not depend on what else is in the batch."""
    assert isinstance(key, tuple)
    tower, role = key
    results: list[list[Found] | Exception] = [[] for _ in questions]
    try:
        if tower is None:
            rows = Embedding.cat([question.item for question in questions])
        else:
            rows = _encoded(library, tower, role, questions, results)
    except Exception as error:  # whose item it was shows when each goes alone: the others have no part in it
        return [error] if len(questions) == 1 else [answer(library, key, [each])[0] for each in questions]
    alike: dict[tuple[tuple[str, ...], int, str | None], list[int]] = {}
    for at, question in enumerate(questions):
        if not isinstance(results[at], Exception):
            alike.setdefault((question.targets, question.k, question.where), []).append(at)
    for (targets, k, where), members in alike.items():
        try:
            for target in targets:
                shelf = library.shelves[target]
                found = shelf.search(rows[members], k, where)
                for at, hits in zip(members, found, strict=True):
                    part = results[at]
                    assert isinstance(part, list)
                    part.append(Found(shelf, hits, *_usual(shelf.sample, rows[at : at + 1])))
        except ValueError as error:  # a filter that can't be read
            for at in members:
                results[at] = error
    return results


def _encoded(
    library: Library,
    tower: str,
    role: str | None,
    questions: Sequence[Question],
    results: list[list[Found] | Exception],
) -> Embedding:
    def bad(error: BadItem) -> None:
        results[error.position] = BadItem(0, error.got, error.expected)

    items = [question.item for question in questions]
    return library.space.encode(tower, items, role=role, batch_size=len(items), on_error=bad)


def _usual(sample: Embedding | None, q: Embedding) -> tuple[float | None, float | None]:
    if sample is None or len(sample) < 2:
        return None, None
    real = q.values[q.mask]  # [T, D] without the padding that its batch gave it
    if sample.values.shape[1] == 1:  # a row of one vector meets the sum of the query's
        scores = sample.vectors @ real.sum(0)
    else:
        scores = similarity(Embedding(real[None], q.mask.new_ones(1, len(real))), sample)[0]
    return float(scores.mean()), float(scores.std())
