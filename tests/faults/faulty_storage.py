"""Faults of encoders on disk and in workers."""

from __future__ import annotations

import itertools
import os

import torch
from planted import breaks

from coembed.testing import ToyEncoder

BUILT = itertools.count(1)


@breaks("encoder", "saves_and_restores", "gives other vectors", also=("survives_a_space",))
class ForgetsItsScale(ToyEncoder):
    def __init__(self, spec):
        super().__init__(spec)
        self.scale = 1 + 0.01 * next(BUILT)  # neither parameter, buffer nor asset

    def pooled(self, tokens):
        out = super().pooled(tokens)
        return type(out)(out.values * self.scale, out.mask, out.sizes)


@breaks("encoder", "saves_and_restores", "gives other vectors", also=("survives_a_space",))
class RestoresNothing(ToyEncoder):
    def restore(self, folder):
        return None


@breaks("encoder", "saves_and_restores", "no such weights file", also=("survives_a_space",))
class SavesNothing(ToyEncoder):
    def save(self, folder):
        folder.mkdir(parents=True)


@breaks("encoder", "saves_and_restores", "another fingerprint", also=("survives_a_space",))
class SignsEachInstance(ToyEncoder):
    def fingerprint(self):
        return f"{super().fingerprint()}-{id(self)}"


@breaks("encoder", "survives_a_space", "leave the arguments")
class TinyHidesItsArguments(ToyEncoder):
    @classmethod
    def tiny(cls, spec):
        return cls(spec, blocks=3)


@breaks("encoder", "survives_a_space", "gives other vectors")
class OpensAFreshOne(ToyEncoder):
    @classmethod
    def open(cls, spec, folder):
        return cls(spec)

    def fingerprint(self):
        return "always the same"


@breaks("encoder", "survives_a_space", "names the source 'org/model'")
class NamesASource(ToyEncoder):
    @classmethod
    def tiny(cls, spec):
        encoder = super().tiny(spec)
        encoder.source = "org/model"
        return encoder


class Collates(ToyEncoder):
    """What collate gives, changed."""

    def collate(self, items, prompt=""):
        return self.change(super().collate(items, prompt))


class Count(int):
    """A number that travels as a tensor would."""

    def to(self, *_, **__):
        return self


@breaks("encoder", "collates_in_workers", "a dict of CPU tensors")
class CollatesNumbers(Collates):
    def change(self, batch):
        return {**batch, "count": Count(len(batch["ids"]))}


class Own(dict):
    """A dict that carries a function."""


@breaks("encoder", "collates_in_workers", "does not pickle")
class CollatesFunctions(Collates):
    def change(self, batch):
        own = Own(batch)
        own.undo = lambda: None
        return own


@breaks("encoder", "collates_in_workers", "made in a worker process differs in salt")
class CollatesByProcess(Collates):
    def change(self, batch):
        return {**batch, "salt": torch.tensor([os.getpid()])}


@breaks("encoder", "collates_in_workers", "fails in a worker process (RuntimeError: no tokeniser here)")
class CollatesAtHome(Collates):
    def change(self, batch):
        if torch.utils.data.get_worker_info() is not None:
            raise RuntimeError("no tokeniser here")
        return batch
