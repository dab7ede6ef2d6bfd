"""Faults of objectives."""

from __future__ import annotations

from dataclasses import replace

import torch
from planted import ANY, breaks

from coembed.objectives import InfoNCE, Objective
from coembed.objectives.pairs import PairObjective


class Changed(InfoNCE):
    """InfoNCE, its loss changed."""

    def forward(self, a, b, **given):
        return self.change(super().forward(a, b, **given))


@breaks("objective", "prefers_aligned_pairs", "aligned pairs cost -")
class LikesStrangers(Changed):
    def change(self, loss):
        return -loss


@breaks("objective", "prefers_aligned_pairs", "reduce it to a scalar", also=ANY)
class GivesAVector(Changed):
    def change(self, loss):
        return loss.reshape(1)


class Distance(PairObjective):
    """Distances of partners, nothing else: a right objective that is additive."""

    symmetric = additive = True

    def rows(self, pairs):
        return (pairs.a.pool().vectors - pairs.b.pool().vectors).square().sum(1)


@breaks("objective", "has_finite_gradients", "not finite for equal vectors")
class TakesARoot(Distance):
    def rows(self, pairs):
        return super().rows(pairs).sqrt()


@breaks("objective", "has_finite_gradients", "has no gradient")
class Detaches(Changed):
    def change(self, loss):
        return loss.detach()


@breaks("objective", "has_finite_gradients", "no gradient reaches side a")
class TrainsOneSide(InfoNCE):
    def rows(self, pairs):
        return super().rows(replace(pairs, a=replace(pairs.a, values=pairs.a.values.detach())))


@breaks("objective", "has_finite_gradients", "the loss of one pair is nan")
class DividesByNegatives(InfoNCE):
    def rows(self, pairs):
        return super().rows(pairs) * ((len(pairs) - 1) / torch.tensor(float(len(pairs) - 1)))


@breaks("objective", "treats_sides_alike", "average both directions")
class AsksOneWay(InfoNCE):
    def __init__(self):
        super().__init__(directions="a->b")
        self.symmetric = True


@breaks("objective", "ignores_the_order_of_pairs", "pairs in another order cost")
class WeighsByPlace(InfoNCE):
    def rows(self, pairs):
        losses = super().rows(pairs)
        return losses * torch.linspace(1.5, 0.5, len(losses), dtype=losses.dtype)


@breaks("objective", "honours_weights", "weights are ignored")
class IgnoresWeights(InfoNCE):
    def forward(self, a, b, *, weights=None, **given):
        return super().forward(a, b, **given)


@breaks("objective", "honours_weights", "the loss is the weighted mean")
class SumsWeights(InfoNCE):
    def forward(self, a, b, *, weights=None, **given):
        return super().forward(a, b, weights=weights, **given) * (1 if weights is None else weights.sum())


@breaks("objective", "honours_masks", "`keys` is ignored")
class IgnoresKeys(InfoNCE):
    def forward(self, a, b, *, keys=None, **given):
        return super().forward(a, b, **given)


@breaks("objective", "honours_masks", "`mask` is ignored")
class IgnoresMask(InfoNCE):
    def forward(self, a, b, *, mask=None, **given):
        return super().forward(a, b, **given)


@breaks("objective", "honours_masks", "say additive = True")
class HidesThatItAddsUp(Distance):
    additive = False


@breaks("objective", "honours_masks", "let them cost 0")
class NeedsANegative(InfoNCE):
    def rows(self, pairs):
        # without a negative: the logarithm of nothing
        return super().rows(pairs) + torch.where(pairs.negative().any(1) | (len(pairs) == 1), 0.0, torch.inf)


@breaks("objective", "adds_up", "say False")
class SaysItAddsUp(InfoNCE):
    additive = True


@breaks("objective", "leaves_absent_rows_out", "drop pairs unless both")
class SeesAbsentRows(Objective):
    symmetric = additive = True

    def forward(self, a, b, *, weights=None, keys=None, mask=None, negatives=None):
        losses = (a.values - b.values).square().sum((1, 2))
        weights = torch.ones(len(a), dtype=losses.dtype) if weights is None else weights
        return (weights * losses).sum() / weights.sum()


@breaks("objective", "leaves_absent_rows_out", "ValueError", also=ANY)
class RefusesAbsentRows(InfoNCE):
    def forward(self, a, b, **given):
        if not (a.mask.all() and b.mask.all()):
            raise ValueError("an absent row")
        return super().forward(a, b, **given)
