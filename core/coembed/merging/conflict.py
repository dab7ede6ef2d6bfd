"""Whether tasks pull shared weights apart: the cosines between their gradients."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coembed.merging.probe import Probe
from coembed.merging.vectors import cosines, gram
from coembed.space import Space
from coembed.tasks import Task


@dataclass(frozen=True)
class Conflict:
    """Gradients of N tasks at one point: `cosines` `[N, N]` between their means over some batches, and their `norms`.

    `negative` `[N, N]` is the share of batches on which a pair of tasks pulled in opposite directions: about a half is
    what unrelated tasks show.
    """

    cosines: Tensor
    norms: Tensor
    negative: Tensor


def gradient_conflict(
    space: Space, tasks: Sequence[Task], *, batches: int = 8, batch_size: int = 64, seed: int = 0
) -> Conflict:
    """How much tasks agree on where the weights that they share should go, with dropout off; the space is left alone.

    The weights are those that train (`Tower.trainable`) in every task's towers. Raises ValueError if there are none, or
    a task has no usable record.
    Source: Yu et al. 2020, Gradient Surgery for Multi-Task Learning, definition 1.

    >>> from coembed import Contrast, Records
    >>> from coembed.testing import toy_encoder
    >>> space = Space({"a": toy_encoder(dim=4), "b": toy_encoder(dim=4, seed=1)}, train="all")
    >>> task = Contrast(Records.pairs(a=["one", "two"], b=["1", "2"]), ("a", "b"))
    >>> gradient_conflict(space, [task, task], batches=1, batch_size=2).cosines.round(decimals=4)
    tensor([[1., 1.],
            [1., 1.]], dtype=torch.float64)
    """
    work = copy.deepcopy(space)
    names = {id(p): name for name, p in work.named_parameters()}
    each = [{id(p) for tower in task.towers for p in work[tower].trainable().values()} for task in tasks]
    wanted = [name for key, name in names.items() if all(key in some for some in each)]
    if not wanted:
        raise ValueError("the tasks share no weight that trains: give their towers in common train='all' or a head")
    weights = {name: p.detach().clone().requires_grad_() for name, p in work.named_parameters() if name in wanted}
    total: list[dict[str, Tensor]] = []
    negative = torch.zeros(len(tasks), len(tasks), dtype=torch.float64)
    own = [
        Probe(copy.deepcopy(work), [task], wanted, steps=batches, batch_size=batch_size, seed=seed) for task in tasks
    ]
    for batch in range(batches):
        found = []
        for probe in own:
            gradient = torch.autograd.grad(probe.loss(batch, weights), list(weights.values()), allow_unused=True)
            pairs = zip(weights.items(), gradient, strict=True)
            found.append({name: torch.zeros_like(w) if g is None else g for (name, w), g in pairs})
        negative += (gram(found) < 0).double() / batches
        total = found if not total else [{n: t[n] + f[n] for n in t} for t, f in zip(total, found, strict=True)]
    norms = gram(total).diagonal().sqrt() / batches
    return Conflict(cosines(total), norms, negative)
