"""A small set of records as a judge of weights: its loss as a function of them, and its retrieval metric."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from statistics import mean

import torch
from torch import Tensor, nn

from coembed.features import FeatureStore
from coembed.nn.seeding import counter
from coembed.space import Space
from coembed.tasks import Contrast, Task
from coembed.training.columns import Batch, read_columns
from coembed.training.embedder import Embedder, seeded
from coembed.training.frozen import frozen_features
from coembed.training.request import check_usable
from coembed.training.sampler import Schedule


class Probe(nn.Module):
    """The loss of tasks, each counted alike, as a differentiable function of some of a space's weights.

    A step s takes the same batches each time it is asked for, one of every task; `steps` is how many there are. The
    space should be the probe's own: it is put in evaluation mode, and its towers whose encoders do not vary are read
    once. `varies` names its weights that will be given. Raises ValueError for a task without usable records.

    >>> from coembed import Records
    >>> from coembed.testing import toy_encoder
    >>> space = Space({"a": toy_encoder(dim=4), "b": toy_encoder(dim=4, seed=1)})
    >>> words = ["one", "two", "three"]
    >>> name = "towers.a.encoder.table.weight"
    >>> probe = Probe(space, [Contrast(Records.pairs(a=words, b=words), ("a", "b"))], [name], steps=1, batch_size=3)
    >>> loss = probe.loss(0, {name: torch.zeros(256, 4, requires_grad=True)})
    >>> loss.requires_grad
    True
    """

    def __init__(
        self,
        space: Space,
        tasks: Sequence[Task],
        varies: Sequence[str],
        *,
        steps: int,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        tasks = [copy.copy(task) for task in tasks]  # what a task prepares is the probe's, not the caller's
        self.space, self.tasks = space.requires_grad_(False).eval(), nn.ModuleList(tasks)
        device = next(space.parameters()).device
        for task in tasks:
            task.to(device).prepare(space)
        self._records = read_columns(tasks)
        check_usable(tasks, [len(usable) for usable in self._records], batch_size)
        moving = {id(dict(space.named_parameters())[name]) for name in varies}
        for name in space:  # only what never varies may be read once and kept
            still = not any(id(p) in moving for p in space[name].encoder.parameters())
            space[name].locked, space[name].train_word = still, "none" if still else "all"
        self._features = frozen_features(space, tasks, self._records, FeatureStore(), False)
        sizes = [len(usable) for usable in self._records]
        self._schedule = Schedule(
            sizes, [1.0] * len(sizes), batch_size=batch_size, steps=max(1, steps) * len(sizes), seed=seed
        )
        self._seed = seed

    def forward(self, step: int) -> Tensor:
        """The mean of the tasks' losses on the batches of a step, at the space's own weights."""
        losses = []
        for turn in range(step * len(self.tasks), (step + 1) * len(self.tasks)):
            index, at = self._schedule.batch(turn)
            task, batch = self.tasks[index], Batch(self._records[index], at)
            assert isinstance(task, Task)
            own = counter(self._seed, "probe", turn)
            embed = Embedder(self.space, batch, at, self._features.get(index, {}), seed=own)
            with seeded(own, next(self.space.parameters()).device):
                losses.append(task.loss(batch, embed, self.space))
        return torch.stack(losses).mean()

    def loss(self, step: int, weights: Mapping[str, Tensor]) -> Tensor:
        """The same with these weights in place of the space's, which are left alone; gradients pass through them."""
        found: Tensor = torch.func.functional_call(self, {f"space.{n}": t for n, t in weights.items()}, (step,))
        return found


def retrieval(tasks: Sequence[Contrast], metric: str = "MRR") -> Callable[[Space], float]:
    """What measures a space by a retrieval metric on the tasks' records, each task and direction counted alike.

    >>> from coembed import Records
    >>> from coembed.testing import toy_encoder
    >>> words = ["one", "two", "three"]
    >>> encoder = toy_encoder(dim=4)
    >>> measure = retrieval([Contrast(Records.pairs(a=words, b=words), ("a", "b"))], "R@1")
    >>> measure(Space({"a": encoder, "b": encoder}))
    1.0
    """
    from coembed.evaluation import evaluate

    def measure(space: Space) -> float:
        found = [evaluate(space, task.source, pairs=list(task.pairs), roles=task.roles) for task in tasks]
        return mean(mean(float(row[metric]) for row in rows.values()) for rows in found)

    return measure
