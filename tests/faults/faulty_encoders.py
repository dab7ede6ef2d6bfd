"""Faults in what encoders give out."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import warnings
from dataclasses import replace

import numpy
import torch
from planted import ANY, breaks
from torch import nn

from coembed import Embedding
from coembed.testing import ToyEncoder


@breaks("encoder", "builds_offline", "look-up of example.org")
class AsksTheHub(ToyEncoder):
    @classmethod
    def tiny(cls, spec):
        with contextlib.suppress(Exception):  # no network: a guess will do
            socket.create_connection(("example.org", 443))
        return super().tiny(spec)


@breaks("encoder", "builds_offline", "FileNotFoundError", also=ANY)
class HasNoTiny(ToyEncoder):
    @classmethod
    def tiny(cls, spec):
        raise FileNotFoundError("weights.safetensors")


MEDDLING = {
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "seed": lambda: torch.manual_seed(0),
    "python": lambda: random.seed(0),
    "numpy": lambda: numpy.random.seed(0),
    "threads": lambda: torch.set_num_threads(1),
    "environment": lambda: os.environ.update(FAULTY="1"),
    "filters": lambda: warnings.simplefilter("ignore"),
    "grad": lambda: torch.set_grad_enabled(False),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "precision": lambda: torch.set_float32_matmul_precision("high"),
}


@breaks("encoder", "leaves_settings_alone", "torch's default dtype", also=ANY, kwargs={"sets": "dtype"})
@breaks("encoder", "leaves_settings_alone", "torch's random state", kwargs={"sets": "seed"})
@breaks("encoder", "leaves_settings_alone", "Python's random state", kwargs={"sets": "python"})
@breaks("encoder", "leaves_settings_alone", "NumPy's random state", kwargs={"sets": "numpy"})
@breaks("encoder", "leaves_settings_alone", "torch's thread count", kwargs={"sets": "threads"})
@breaks("encoder", "leaves_settings_alone", "the environment (FAULTY)", kwargs={"sets": "environment"})
@breaks("encoder", "leaves_settings_alone", "the warning filters", kwargs={"sets": "filters"})
@breaks("encoder", "leaves_settings_alone", "torch's grad mode", also=ANY, kwargs={"sets": "grad"})
@breaks("encoder", "leaves_settings_alone", "torch's deterministic mode", kwargs={"sets": "deterministic"})
@breaks("encoder", "leaves_settings_alone", "torch's matmul precision", kwargs={"sets": "precision"})
class Meddles(ToyEncoder):
    def __init__(self, spec, *, sets):
        super().__init__(spec)
        MEDDLING[sets]()


class Changed(ToyEncoder):
    """What encode gives, changed."""

    def change(self, out):
        return out

    def encode(self, items, **options):
        return self.change(super().encode(items, **options))


@breaks("encoder", "gives_its_shape", "gave 5 rows", also=ANY)
class GivesMoreRows(Changed):
    def change(self, out):
        return Embedding.cat([out, out[:1]])


@breaks("encoder", "gives_its_shape", "not finite", also=ANY)
class GivesNaN(Changed):
    def change(self, out):
        return replace(out, values=out.values * float("nan"))


@breaks("encoder", "gives_its_shape", "all False", also=ANY)
class HidesARow(Changed):
    def change(self, out):
        mask = out.mask.clone()
        mask[1:2] = False
        return replace(out, mask=mask)


@breaks("encoder", "gives_its_shape", "values are torch.float64")
class GivesDoubles(Changed):
    def change(self, out):
        return out.to(torch.float64)


@breaks("encoder", "gives_its_shape", "dim says 16", also=ANY)
class PoolsToAnotherWidth(ToyEncoder):
    class Pool(nn.Module):
        def forward(self, x):
            return Embedding(x.values[..., :8], x.mask).pool()

    def __init__(self, spec):
        super().__init__(spec)
        self.pooling = self.Pool()


@breaks("encoder", "gives_its_shape", "token_dim says 99")
class NamesAnotherTokenWidth(ToyEncoder):
    def __init__(self, spec):
        super().__init__(spec)
        self.token_dim = 99


@breaks("encoder", "gives_its_shape", "look at the items", also=("honours_roles",))
class LooksAtNothing(ToyEncoder):
    def collate(self, items, prompt=""):
        super().collate(items)
        return super().collate(["x"] * len(items))


@breaks("encoder", "gives_what_it_says", "pooling leaves T =")
class DoesNotPool(ToyEncoder):
    def __init__(self, spec):
        super().__init__(spec)
        self.pooling = nn.Identity()


@breaks("encoder", "gives_what_it_says", "the encoder 'multivector'")
class SaysOtherwise(ToyEncoder):
    def __init__(self, spec):
        super().__init__(replace(spec, output="multivector"))


@breaks("encoder", "takes_no_items", "[0, T, 16] is expected")
class InventsAnItem(ToyEncoder):
    def encode(self, items, **options):
        return super().encode(items or ["nothing"], **options)


@breaks("encoder", "takes_no_items", "ValueError")
class WantsItems(ToyEncoder):
    def encode(self, items, **options):
        if not items:
            raise ValueError("no items")
        return super().encode(items, **options)


@breaks("encoder", "ignores_its_batch", "differs alone")
class LeaksPadding(ToyEncoder):
    def forward(self, batch, layer=None):
        return Embedding(super().forward(batch, layer).values, torch.ones_like(batch["mask"]))


@breaks("encoder", "ignores_its_batch", "differs alone")
class CentresTheBatch(ToyEncoder):
    def pooled(self, tokens):
        out = super().pooled(tokens)
        return replace(out, values=out.values - 0.1 * out.values.mean(0))


@breaks("encoder", "ignores_its_batch", "rows in the order of the items", also=("names_bad_items",))
class SortsRows(ToyEncoder):
    def encode(self, items, **options):
        return super().encode(sorted(items, key=len), **options)


@breaks("encoder", "repeats_itself", "leave dropout", also=("saves_and_restores", "survives_a_space"))
class DropsAlways(ToyEncoder):
    def forward(self, batch, layer=None):
        out = super().forward(batch, layer)
        with torch.random.fork_rng():
            torch.seed()
            return replace(out, values=out.values + 1e-6 * torch.rand_like(out.values))


@breaks("encoder", "repeats_itself", "no state from one call")
class KeepsState(ToyEncoder):
    calls = 0

    def forward(self, batch, layer=None):
        self.calls += 1
        out = super().forward(batch, layer)
        return replace(out, values=out.values * (1 + 1e-6 * self.calls))
