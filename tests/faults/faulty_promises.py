"""Faults of encoders that declare more than they do."""

from __future__ import annotations

from dataclasses import replace

import torch
from planted import breaks

from coembed import BadItem, Embedding
from coembed.testing import ToyEncoder


@breaks("encoder", "honours_roles", "role 'query' changes nothing")
class IgnoresPrompts(ToyEncoder):
    def collate(self, items, prompt=""):
        return super().collate(items)


@breaks("encoder", "honours_roles", "an unknown role was accepted")
class TakesAnyRole(ToyEncoder):
    def prompt_for(self, role=None, prompt=None):
        return self.prompts.get(role, prompt or "")


@breaks("encoder", "honours_roles", "roles that the encoder lacks: document, query")
class LosesItsRoles(ToyEncoder):
    def __init__(self, spec):
        super().__init__(spec)
        self.prompts = {}


@breaks("encoder", "honours_sizes", "sizes that the encoder lacks: [4, 8]")
class LosesItsSizes(ToyEncoder):
    def __init__(self, spec):
        super().__init__(spec)
        self.sizes = ()


@breaks("encoder", "honours_sizes", "the undeclared size 1 was accepted")
class CutsAnywhere(ToyEncoder):
    def encode(self, items, *, dim=None, **options):
        out = super().encode(items, **options)
        return out if dim is None else out.truncate(dim, force=True)


@breaks("encoder", "honours_sizes", "normalise after cutting")
class CutsWithoutNormalising(ToyEncoder):
    def encode(self, items, *, dim=None, **options):
        out = super().encode(items, **options)
        if dim is not None:
            out.truncate(dim)
        return out if dim is None else replace(out, values=out.values[..., :dim])


@breaks("encoder", "honours_sizes", "dim=4 gives 16 dimensions")
class ChecksAndForgetsSizes(ToyEncoder):
    def encode(self, items, *, dim=None, **options):
        out = super().encode(items, **options)
        if dim is not None:
            out.truncate(dim)
        return out if dim is None else out.normalize()


@breaks("encoder", "exits_early", "layer=1 ran 2 of 2 blocks")
class RunsToTheEnd(ToyEncoder):
    def forward(self, batch, layer=None):
        x = self.table(batch["ids"])
        states = [x := x + torch.tanh(block(x)) for block in self.body]
        return Embedding(states[(layer or 2) - 1], batch["mask"])


@breaks("encoder", "exits_early", "layer 0 was accepted")
class TakesAnyLayer(ToyEncoder):
    def check_layer(self, layer):
        return None


@breaks("encoder", "exits_early", "tiny() has none")
class LosesItsLayers(ToyEncoder):
    def __init__(self, spec):
        super().__init__(spec)
        self.layers = None


@breaks("encoder", "exits_early", "2 layers are declared, blocks() has 1")
class ListsOneBlock(ToyEncoder):
    def blocks(self):
        return list(self.body)[:1]


@breaks("encoder", "exits_early", "hidden() gives other features after layer 1")
class CountsFromTheInput(ToyEncoder):
    def hidden(self, batch, layers):
        return [self._states(batch, max(layers))[layer - (layer < 2)] for layer in layers]


@breaks("encoder", "names_bad_items", "NoneType was encoded without an error")
class TakesAnything(ToyEncoder):
    def collate(self, items, prompt=""):
        return super().collate([str(item) for item in items], prompt)


@breaks("encoder", "names_bad_items", "_Nonsense was encoded without an error")
class TakesObjects(ToyEncoder):
    def collate(self, items, prompt=""):
        return super().collate([item if item is None else str(item) for item in items], prompt)


@breaks("encoder", "names_bad_items", "the bad item is item 1")
class NamesAnotherPlace(ToyEncoder):
    def collate(self, items, prompt=""):
        try:
            return super().collate(items, prompt)
        except BadItem as error:
            raise error.at(0) from error


@breaks("encoder", "names_bad_items", "does not say what was expected")
class SaysNothing(ToyEncoder):
    def collate(self, items, prompt=""):
        try:
            return super().collate(items, prompt)
        except BadItem as error:
            raise BadItem(error.position, error.got, "") from error


@breaks("encoder", "names_bad_items", "loses or changes other rows")
class DropsTheRow(ToyEncoder):
    def encode(self, items, *, on_error="raise", **options):
        if on_error == "raise":
            return super().encode(items, **options)
        for position, item in enumerate(items):
            if not isinstance(item, str):
                on_error(BadItem(position, "an object", "a str"))
        return super().encode([item for item in items if isinstance(item, str)], **options)
