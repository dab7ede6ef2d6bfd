"""Curricula in run files: hard negatives, memories, ways to make batches, stages.

    tasks:
      - name: pairs
        towers: [text, code]
        negatives: {k: 7, ratio: 0.95, same: label}   # or the file of mined ones: negatives.json
        in_batch: true
        memory: {size: 4096, age: 50}                 # or a number
        batches: {homogeneous: label}                 # mixed, homogeneous or locality
    stages:
      - {epochs: 5}
      - {epochs: 2, tasks: [pairs], in_batch: false, batch_size: 64, lr: 1e-4}

A stage's keys are those of `coembed.training.stages.Stage`; `tasks` are named by number or by `name`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coembed.settings import Part, RunError

KEYS = ("negatives", "in_batch", "memory", "batches")


@dataclass(frozen=True)
class Component:
    """A registered name and the arguments that it gets; `where` is the place that asked for it, for messages."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True)
class Harder:
    """What a contrast compares with, as a run file says it; None is as it is without."""

    negatives: Mapping[str, Any] | str | None = None
    in_batch: bool | None = None
    memory: Mapping[str, Any] | int | None = None
    batches: Mapping[str, Any] | str | None = None
    where: str = ""


@dataclass(frozen=True)
class StagePlan:
    """One stage: its settings, its tasks by number (None: all), and what it changes of them."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[int, ...] | None = None
    objective: Component | None = None
    harder: Harder = field(default_factory=Harder)
    where: str = ""


def harder(part: Part, folder: Path) -> Harder:
    """The keys `negatives`, `in_batch`, `memory` and `batches` of a part; files are taken relative to `folder`."""
    negatives = part.get("negatives", (dict, str))
    batches = part.get("batches", (dict, str))
    if isinstance(batches, Mapping) and isinstance(inner := batches.get("locality"), Mapping):
        if isinstance(inner.get("given"), str):
            batches = {**batches, "locality": {**inner, "given": str(folder / inner["given"])}}
    return Harder(
        str(folder / negatives) if isinstance(negatives, str) else negatives,
        part.get("in_batch", bool),
        part.get("memory", (dict, int)),
        batches,
        part.at(),
    )


def stages(
    top: Part,
    folder: Path,
    names: Sequence[str],
    known: Sequence[str],
    settings: Callable[[Part, Sequence[str]], Mapping[str, Any]],
    component: Callable[[Part, str, str], Component],
) -> tuple[StagePlan, ...]:
    """The stages of a run with tasks of these `names`; `known` are the settings that a stage may have."""
    found = []
    for part in top.listed("stages"):
        part.only(*known, *KEYS, "tasks", "objective")
        given = part.get("tasks", list)
        if given is not None and not names:
            raise RunError(f"{part.at('tasks')}: the run has no tasks to choose from: write them under tasks:")
        chosen = None if given is None else tuple(_number(part, task, names) for task in given)
        own = Part({k: v for k, v in part.data.items() if k in known}, part.file, part.place, part.lines)
        objective = component(part, "objective", "") if "objective" in part.data else None
        found.append(StagePlan(settings(own, known), chosen, objective, harder(part, folder), part.at()))
    if "stages" in top.data and not found:
        raise RunError(f"{top.at('stages')}: give one stage or more")
    return tuple(found)


def _number(part: Part, task: Any, names: Sequence[str]) -> int:
    if isinstance(task, str):
        part.known("tasks", [task], names)
        return names.index(task)
    if isinstance(task, bool) or not isinstance(task, int) or not 0 <= task < len(names):
        raise RunError(f"{part.at('tasks')}: {task!r}: there are {len(names)} tasks, counted from 0, or named")
    return task
