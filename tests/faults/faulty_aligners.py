"""Faults of aligners."""

from __future__ import annotations

import itertools

import torch
from planted import breaks
from torch import nn

from coembed import Embedding
from coembed.aligner import Linear, with_values

BUILT = itertools.count(1)


@breaks("aligner", "gives_unit_vectors", "normalise them")
class GivesRawVectors(Linear):
    def forward(self, x):
        super().forward(x)
        clean = with_values(x, x.values.masked_fill(~x.mask.unsqueeze(-1), 0))
        return self.project(clean)


@breaks("aligner", "gives_unit_vectors", "features of width 13 were accepted")
class TakesAnyWidth(Linear):
    def forward(self, x):
        return super().forward(with_values(x, x.values[..., : self.in_dim]))


@breaks("aligner", "gives_unit_vectors", "[9, T, 6] is expected")
class GivesAnotherWidth(Linear):
    def project(self, x):
        return with_values(x, super().project(x).values.repeat(1, 1, 2))


@breaks("aligner", "gives_unit_vectors", "no rows gave [1, 1, 6]")
class InventsARow(Linear):
    def forward(self, x):
        out = super().forward(x)
        return out if len(out) else Embedding.from_vectors(torch.ones(1, self.out_dim)).normalize()


@breaks("aligner", "ignores_padding", "masked tokens leak")
class AveragesPadding(Linear):
    def forward(self, x):
        super().forward(x)
        return Embedding(self.map(x.values.mean(1, keepdim=True)), x.present.unsqueeze(1)).normalize()


@breaks("aligner", "ignores_padding", "a row differs alone")
class CentresTheBatch(Linear):
    def project(self, x):
        return super().project(with_values(x, x.values - 0.5 * x.values.mean(0)))


@breaks("aligner", "passes_gradients", "the features get no finite gradient")
class DetachesFeatures(Linear):
    def project(self, x):
        return super().project(with_values(x, x.values.detach()))


@breaks("aligner", "passes_gradients", "no gradient passes")
class StopsGradients(Linear):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


@breaks("aligner", "passes_gradients", "no gradient reaches spare")
class CarriesASpare(Linear):
    def __init__(self, in_dim, out_dim, *, pool="native"):
        super().__init__(in_dim, out_dim, pool=pool)
        self.spare = nn.Parameter(torch.ones(3))


@breaks("aligner", "passes_gradients", "gradients of gain are not finite")
class TakesARootOfNothing(Linear):
    def __init__(self, in_dim, out_dim, *, pool="native"):
        super().__init__(in_dim, out_dim, pool=pool)
        self.gain = nn.Parameter(torch.zeros(()))

    def project(self, x):
        return with_values(x, super().project(x).values + (self.gain * 0).sqrt())


@breaks("aligner", "survives_a_space", "gives other vectors")
class ForgetsItsTurn(Linear):
    def __init__(self, in_dim, out_dim, *, pool="native"):
        super().__init__(in_dim, out_dim, pool=pool)
        self.shift = 0.1 * next(BUILT)  # neither parameter nor buffer

    def project(self, x):
        return with_values(x, super().project(x).values + self.shift)


@breaks("aligner", "survives_a_space", "a fit() must build what it gives with coembed.load")
class FitsWithoutAName(Linear):
    @staticmethod
    def fit(a, b):
        return FitsWithoutAName(a.dim, b.dim), FitsWithoutAName(b.dim, b.dim)
