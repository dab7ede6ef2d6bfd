"""Stages: parts of a run that follow each other, each with its own tasks, rates and negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from coembed.nn.seeding import counter
from coembed.objectives import Objective
from coembed.tasks import Contrast, Task
from coembed.training.bank import Memory
from coembed.training.batches import Batches
from coembed.training.columns import Columns
from coembed.training.mining import Mined, Miner
from coembed.training.optim import parameter_groups
from coembed.training.request import check_numbers, check_usable
from coembed.training.sampler import Schedule, proportions

if TYPE_CHECKING:
    from coembed.space import Space


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a run; what is None is as `fit` was given it.

    Its steps have a warm-up, a cosine and an optimizer of their own. `tasks` replaces those of the run. `objective`,
    `negatives`, `in_batch`, `memory` and `batches` change its contrasts and nothing else of them: an objective that
    stays keeps its learned temperature. Miners look when the stage begins.

    >>> Stage(steps=100, in_batch=False).in_batch
    False
    """

    steps: int | None = None
    epochs: float | None = None
    tasks: Sequence[Task] | None = None
    objective: str | Objective | None = None
    negatives: Mined | Miner | str | Path | Mapping[str, Any] | None = None
    in_batch: bool | None = None
    memory: Memory | int | None = None
    batches: str | Mapping[str, Any] | Batches | None = None
    batch_size: int | None = None
    mixing: float | None = None
    lr: float | Mapping[str, float] | None = None
    layer_decay: float | None = None
    weight_decay: float | None = None
    warmup: float | None = None
    clip: float | None = None

    def of(self, tasks: Sequence[Task]) -> list[Task]:
        """The stage's tasks, where the run has these."""
        own = list(self.tasks if self.tasks is not None else tasks)
        if self.objective is None and self.negatives is None and self.in_batch is None:
            if self.memory is None and self.batches is None:
                return own
        return [
            task.changed(self.objective, self.negatives, self.in_batch, self.memory, self.batches)
            if isinstance(task, Contrast)
            else task
            for task in own
        ]


@dataclass(frozen=True, eq=False)
class Leg:
    """A stage with everything filled in: steps `start` to `end` of a run, on its tasks of these `numbers`."""

    start: int
    steps: int
    numbers: Sequence[int]
    tasks: Sequence[Task]
    columns: Sequence[Columns]
    batch_size: int
    mixing: float
    lr: float | Mapping[str, float]
    layer_decay: float
    weight_decay: float
    warmup: float
    clip: float

    @property
    def end(self) -> int:
        """The number of steps that are done after it."""
        return self.start + self.steps

    def optimizer(self, space: Space, towers: Sequence[str]) -> torch.optim.Optimizer:
        """For all towers of the run and the stage's tasks; raises ValueError if nothing trains."""
        groups = parameter_groups(space, self.tasks, towers, self.lr, self.weight_decay, self.layer_decay)
        return torch.optim.AdamW(groups)

    def schedule(self, seed: int) -> Schedule:
        """Which records make its steps."""
        sizes = [columns.drawn for columns in self.columns]
        return Schedule(
            sizes,
            proportions(counts(self.tasks, self.columns, self.batch_size), [t.weight for t in self.tasks], self.mixing),
            batch_size=self.batch_size,
            steps=self.steps,
            seed=counter(seed, "stage", self.start) if self.start else seed,
            ways=[task.batches for task in self.tasks],
        )

    def describe(self) -> dict[str, Any]:
        """Its settings, plain JSON types."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("tasks", "columns", "start")}
        lr = dict(self.lr) if isinstance(self.lr, Mapping) else self.lr
        return {**given, "numbers": list(self.numbers), "lr": lr}


def counts(tasks: Sequence[Task], columns: Sequence[Columns], batch_size: int) -> list[int]:
    """How many batches an epoch of each task has."""
    return [task.batches.count(some.drawn, batch_size) for task, some in zip(tasks, columns, strict=True)]


def distinct(stages: Sequence[Sequence[Task]]) -> list[Task]:
    """The tasks of all stages, each once."""
    return list({id(task): task for tasks in stages for task in tasks}.values())


def legs(
    stages: Sequence[Stage],
    own: Sequence[Sequence[Task]],
    tasks: Sequence[Task],
    columns: Sequence[Columns],
    run: Mapping[str, Any],
) -> list[Leg]:
    """The stages, one after the other, each with its `own` tasks out of the run's; `run` holds what is as in the run.

    Raises ValueError naming the stage for a number that can't be, or a task without records.
    """
    number = {id(task): i for i, task in enumerate(tasks)}
    found: list[Leg] = []
    for place, (stage, chosen) in enumerate(zip(stages, own, strict=True)):
        numbers = [number[id(task)] for task in chosen]
        some = [columns[i] for i in numbers]
        names = ("batch_size", "mixing", "lr", "layer_decay", "weight_decay", "warmup", "clip")
        given: dict[str, Any] = {n: run[n] if getattr(stage, n) is None else getattr(stage, n) for n in names}
        lasts = (
            stage if (stage.steps, stage.epochs) != (None, None) else Stage(steps=run["steps"], epochs=run["epochs"])
        )
        steps, epochs = lasts.steps, 1.0 if lasts.epochs is None else lasts.epochs
        try:
            check_numbers({"steps": steps, "epochs": epochs})
            check_numbers({n: given[n] for n in ("batch_size", "warmup", "weight_decay", "clip")})
            check_usable(chosen, [c.drawn for c in some], given["batch_size"])
        except ValueError as error:
            raise error if len(stages) == 1 else ValueError(f"stage {place}: {error}") from error
        if steps is None:
            steps = max(1, round(epochs * sum(counts(chosen, some, given["batch_size"]))))
        found.append(Leg(found[-1].end if found else 0, steps, numbers, chosen, some, **given))
    return found
