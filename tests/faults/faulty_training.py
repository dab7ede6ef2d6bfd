"""Faults of encoders that train."""

from __future__ import annotations

import torch
from planted import breaks
from torch import nn

from coembed import Embedding
from coembed.testing import ToyEncoder

ADAPTERS = ("trains_with_adapters",)


@breaks("encoder", "trains_as_told", "gives no gradient to body.0", also=ADAPTERS)
class StopsGradients(ToyEncoder):
    def forward(self, batch, layer=None):
        with torch.no_grad():
            return super().forward(batch, layer)


@breaks("encoder", "trains_as_told", "gives no gradient to spare")
class CarriesASpare(ToyEncoder):
    def __init__(self, spec):
        super().__init__(spec)
        self.spare = nn.Parameter(torch.ones(3))


@breaks("encoder", "trains_as_told", "train='none' gives gradients", also=ADAPTERS)
class UnfreezesItself(ToyEncoder):
    def forward(self, batch, layer=None):
        self.requires_grad_(True)
        return super().forward(batch, layer)


@breaks("encoder", "trains_as_told", "train='none' changes seen")
class CountsItems(ToyEncoder):
    def __init__(self, spec):
        super().__init__(spec)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, batch, layer=None):
        self.seen += len(batch["ids"])
        return super().forward(batch, layer)


@breaks("encoder", "trains_as_told", "are not finite")
class DividesByNothing(ToyEncoder):
    def forward(self, batch, layer=None):
        out = super().forward(batch, layer)
        return Embedding(out.values + (out.values * 0).sqrt(), out.mask)


@breaks("encoder", "trains_as_told", "differs from the last block's parameters at table.weight", also=ADAPTERS)
class AlwaysTrainsItsTable(ToyEncoder):
    def forward(self, batch, layer=None):
        training = any(p.requires_grad for p in self.body.parameters())
        self.table.weight.requires_grad_(training)
        return super().forward(batch, layer)


@breaks("encoder", "trains_as_told", "in the order [1, 0]", also=("exits_early",))
class ListsBlocksBackwards(ToyEncoder):
    def blocks(self):
        return list(self.body)[::-1]


class Half(nn.Module):
    """A block that reads its map's weights, and never calls it."""

    def __init__(self, width):
        super().__init__()
        self.map = nn.Linear(width, width)

    def forward(self, x):
        return nn.functional.linear(x, self.map.weight, self.map.bias)


@breaks("encoder", "trains_with_adapters", "reaches no adapter")
class ReadsWeights(ToyEncoder):
    def __init__(self, spec):
        super().__init__(spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.ModuleList(Half(self.dim) for _ in range(2))


@breaks("encoder", "trains_with_adapters", "change the output")
class CountsItsModules(ToyEncoder):
    def forward(self, batch, layer=None):
        out = super().forward(batch, layer)
        return Embedding(out.values + 0.001 * len(list(self.modules())), out.mask)
