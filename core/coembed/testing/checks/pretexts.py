"""Checks on pretexts."""

from __future__ import annotations

import torch

from coembed.space import Space
from coembed.testing.cases import Subject, check
from coembed.train import fit


@check("pretext")
def trains_its_tower(subject: Subject) -> None:
    """A few steps lower its loss, move the encoder, and leave no head in the space."""
    task = subject.tiny()
    encoder = subject.target.tiny_encoder()
    space = Space({task.tower: encoder}, train="all", aligner="linear")
    before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
    history = fit(space, tasks=[task], steps=12, batch_size=8, lr=1e-2, cache=False)
    assert min(history.losses[-3:]) < history.losses[0], f"the loss does not fall: {history.losses}"
    after = space.state_dict()
    assert after.keys() == before.keys(), "the pretext left parts of its own in the space"
    assert any(not torch.equal(after[name], tensor) for name, tensor in before.items()), "the encoder did not move"
