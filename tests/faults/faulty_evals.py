"""Faults of evals."""

from __future__ import annotations

import random

from planted import breaks

from coembed import similarity
from coembed.evaluation import Retrieval


class Changed(Retrieval):
    """Retrieval, its figures changed."""

    def __call__(self, space, source):
        return self.change(super().__call__(space, source))


@breaks("eval", "gives_figures", "gives no numbers")
class GivesNothing(Changed):
    def change(self, figures):
        return {direction: {} for direction in figures}


@breaks("eval", "gives_figures", "is NaN")
class GivesNaN(Changed):
    def change(self, figures):
        return {**figures, "extra": float("nan")}


@breaks("eval", "gives_figures", "differs from one run to the next")
class Guesses(Changed):
    def change(self, figures):
        return {**figures, "extra": random.random()}


@breaks("eval", "constants_score_at_chance", "give tied items the middle")
class CountsTiesAsHits:
    """R@1 where nothing scores higher than the partner."""

    def __call__(self, space, source):
        rows = [space.encode(tower, [record[tower] for record in source]) for tower in ("a", "b")]
        scores = similarity(*rows)
        hits = (scores <= scores.diagonal()[:, None] + 1e-6).all(1)
        return {"R@1": float(hits.float().mean()), "chance_R@1": 1 / len(scores)}


@breaks("eval", "constants_score_at_chance", "give tied items the middle")
class RanksTiesFirst:
    """The mean rank, better when lower, of partners that nothing beats."""

    def __call__(self, space, source):
        rows = [space.encode(tower, [record[tower] for record in source]) for tower in ("a", "b")]
        scores = similarity(*rows)
        ranks = (scores > scores.diagonal()[:, None] + 1e-6).sum(1) + 1
        return {"rank": float(ranks.float().mean()), "chance_rank": (len(scores) + 1) / 2}


@breaks("eval", "constants_score_at_chance", "and that is chance")
class LooksAtNothing(Changed):
    def change(self, figures):
        return {"hits": 0.5, "chance_hits": 0.5}
