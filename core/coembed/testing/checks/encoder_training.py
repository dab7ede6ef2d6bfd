"""Checks on how encoders train: gradients go where the train word says."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection

import torch
from torch import Tensor, nn

from coembed.encoder import Encoder
from coembed.testing.checks.encoders import runs, some
from coembed.testing.subject import Inapplicable, Subject, check, hold
from coembed.tower import Tower


def _gradients(tower: Tower) -> dict[str, Tensor]:
    """The gradients that reach the encoder's parameters in a training step."""
    tower.train()
    tower.zero_grad(set_to_none=True)
    out = tower(tower.encoder.collate(some(tower.encoder)))
    # Rows are unit vectors: a random direction keeps the gradient from vanishing by symmetry.
    generator = torch.Generator().manual_seed(0)
    (out.values * torch.randn(out.values.shape, generator=generator)).sum().backward()
    return {name: p.grad for name, p in tower.encoder.named_parameters() if p.grad is not None}


def _list(names: Collection[str], most: int = 4) -> str:
    return ", ".join(sorted(names)[:most])


@check("encoder")
def trains_as_told(subject: Subject) -> None:
    """ "none" leaves the encoder as it is, "all" reaches every parameter, "last:1" the last block alone."""
    encoder: Encoder = subject.tiny()
    names = {name for name, _ in encoder.named_parameters()}
    if not names:
        raise Inapplicable("no parameters")
    tower = Tower(encoder, "linear", dim=4)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    moved = set(_gradients(tower))
    hold(not moved, f"train='none' gives gradients to {_list(moved)}: leave requires_grad to the tower")
    moved = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    hold(not moved, f"train='none' changes {_list(moved)} in a step: update nothing unless self.training")

    tower.set_train("all")
    found = _gradients(tower)
    dead = names - found.keys()
    hold(not dead, f"train='all' gives no gradient to {_list(dead)}: use them in forward, or drop them")
    bad = {name for name, gradient in found.items() if not gradient.isfinite().all()}
    hold(not bad, f"the gradients of {_list(bad)} are not finite")

    blocks = encoder.blocks()
    if not blocks:
        return
    tower.set_train("last:1")
    inside = {name for name, p in encoder.named_parameters() if any(p is q for q in blocks[-1].parameters())}
    moved = set(_gradients(tower))
    hold(
        moved == inside,
        f"train='last:1' differs from the last block's parameters at {_list(moved ^ inside)}: blocks() must be what "
        "forward runs",
    )
    _, ran = runs(blocks, lambda: encoder.encode(some(encoder)[:1]))
    order = list(dict.fromkeys(ran))
    hold(
        order == sorted(order),
        f"forward runs the blocks in the order {order}: blocks() must give them input side first",
    )


@check("encoder")
def trains_with_adapters(subject: Subject) -> None:
    """ "lora:2" puts adapters into the blocks that leave the output as it is, and trains those alone."""
    encoder: Encoder = subject.tiny()
    linear = any(isinstance(part, nn.Linear) for block in encoder.blocks() for part in block.modules())
    if not linear:
        raise Inapplicable("no linear maps in its blocks")
    if importlib.util.find_spec("peft") is None:
        raise Inapplicable("peft is not installed: pip install 'coembed[lora]'")
    items = some(encoder)
    before = encoder.encode(items).values
    found = _gradients(Tower(encoder, "linear", dim=4, train="lora:2"))
    others = {name for name in found if "lora_" not in name}
    hold(not others, f"train='lora:2' gives gradients to {_list(others)}: leave requires_grad to the tower")
    hold(found, "train='lora:2' reaches no adapter: call the linear maps of blocks, don't read their weights")
    hold(
        torch.allclose(encoder.encode(items).values, before, atol=1e-5),
        "adapters that start at zero change the output: call the linear maps of blocks as modules",
    )
