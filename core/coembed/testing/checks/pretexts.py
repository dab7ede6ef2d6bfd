"""Checks on pretexts, on the encoder that they bring for it."""

from __future__ import annotations

import torch

from coembed.nn import seeded
from coembed.space import Space
from coembed.tasks import Pretext
from coembed.testing.subject import Subject, check, hold
from coembed.train import fit
from coembed.training.history import History

STEPS = 20


def _trained(subject: Subject) -> tuple[Space, dict[str, torch.Tensor], History]:
    """A space after some steps, its weights before, and how the loss went."""
    with seeded(0):  # a head starts from torch's generator, as any module does
        task: Pretext = subject.tiny()
        space = Space({task.tower: subject.target.tiny_encoder()}, train="all", aligner="identity")
        before = {name: tensor.clone() for name, tensor in space.state_dict().items()}
        return space, before, fit(space, tasks=[task], steps=STEPS, batch_size=8, lr=1e-2, cache=False)


@check("pretext")
def teaches_its_tower(subject: Subject) -> None:
    """Some steps lower its loss and move the encoder."""
    space, before, history = _trained(subject)
    quarter = STEPS // 4
    start, end = (sum(part) / quarter for part in (history.losses[:quarter], history.losses[-quarter:]))
    hold(end < start, f"the loss goes from {start:.3f} to {end:.3f} in {STEPS} steps: it must fall")
    after = space.state_dict()
    moved = any(not torch.equal(after[name], tensor) for name, tensor in before.items() if name in after)
    hold(moved, "the encoder did not move: let the loss depend on what it gives, without detaching")


@check("pretext")
def throws_its_head_away(subject: Subject) -> None:
    """It leaves nothing of its own in the space."""
    space, before, _ = _trained(subject)
    more = sorted(space.state_dict().keys() - before.keys())
    hold(not more, f"it leaves {', '.join(more[:3])} in the encoder: keep its head on the pretext itself")


@check("pretext")
def draws_from_the_step(subject: Subject) -> None:
    """Two runs of one seed have the same losses: randomness comes from torch's generator, seeded by step."""
    first, second = (_trained(subject)[2].losses for _ in range(2))
    hold(
        first == second,
        f"two runs of one seed part: {first[0]:.6f} and {second[0]:.6f} at first; draw with torch in collate_items",
    )
