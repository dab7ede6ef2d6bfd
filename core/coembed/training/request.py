"""What a run was asked to do, checked before the long work: its tasks and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from coembed.arguments import number
from coembed.objectives import Objective
from coembed.sources import Source
from coembed.sources.given import source_from
from coembed.tasks import Contrast, Task

if TYPE_CHECKING:
    from pathlib import Path

    from coembed.space import Space
    from coembed.training.stages import Stage


def tasks_of(
    space: Space,
    source: str | Path | Source | None,
    objective: str | Objective,
    tasks: Sequence[Task] | None,
    stages: Sequence[Stage] | None = None,
) -> list[Task]:
    """The tasks that are given, or one contrast for every pair of the space's towers that some record has both of.

    Raises TypeError for what is no space, task or source, ValueError if there is nothing to train on, or both a source
    and tasks.
    """
    from coembed.space import Space

    if not isinstance(space, Space):
        raise TypeError(
            f"a Space is expected, got a {type(space).__name__}: Space({{'text': …, 'image': …}}) makes one"
        )
    _check_stages(stages)
    if tasks is not None:
        return _checked(tasks, source)
    if source is None and stages is not None and all(stage.tasks is not None for stage in stages):
        return []
    if source is None:
        raise ValueError("fit needs a source of records, or tasks")
    built = source_from(source)
    kinds = {tuple(record.items) for record in built}
    shared = {pair for kind in kinds for pair in combinations([t for t in space if t in kind], 2)}
    if not shared:
        have, want = ", ".join(built.towers) or "nothing", ", ".join(space)
        raise ValueError(f"no record has items for two towers of the space: records have {have}, towers are {want}")
    return [Contrast(built, pair, objective) for pair in combinations(space, 2) if pair in shared]


def _check_stages(stages: Sequence[Stage] | None) -> None:
    from coembed.training.stages import Stage

    if stages is None:
        return
    if isinstance(stages, Stage):
        raise TypeError("stages is one Stage: a list is expected, stages=[stage, …]")
    if not stages:
        raise ValueError("stages is empty: give one stage or more, or none for a run in one piece")
    for position, stage in enumerate(stages):
        if not isinstance(stage, Stage):
            raise TypeError(f"element {position} of stages is a {type(stage).__name__}: a coembed.Stage is expected")
        if stage.tasks is not None:
            _checked(stage.tasks, None)


def _checked(tasks: Sequence[Task], source: object) -> list[Task]:
    if isinstance(tasks, Task):
        raise TypeError(f"tasks is one {type(tasks).__name__}: a list is expected, tasks=[task]")
    if source is not None:
        raise ValueError("fit was given both a source and tasks: a task has its own source, so give one or the other")
    for position, task in enumerate(tasks):
        if not isinstance(task, Task):
            raise TypeError(
                f"element {position} of tasks is a {type(task).__name__}: a Contrast or Pretext is expected"
            )
    if not tasks:
        raise ValueError("tasks is empty: give one task or more, or a source")
    return list(tasks)


def check_numbers(given: Mapping[str, Any]) -> None:
    """Raise ValueError for a setting of `fit` that can't be, naming it, its value and what can.

    >>> check_numbers({"steps": 0})
    Traceback (most recent call last):
    ValueError: steps is 0: a whole number of at least 1 is expected
    """
    for name, value in given.items():
        if name in WHOLE and not (value is None and name in MAY_LACK):
            number(name, value, whole=True, least=1)
        elif name == "epochs":
            number(name, value, above=True)
        elif name == "warmup":
            number(name, value, most=1)
        elif name in ("weight_decay", "clip"):
            number(name, value)
    if given.get("precision", "auto") not in ("fp32", "bf16", "auto"):
        raise ValueError(f"precision {given['precision']!r}: use 'fp32', 'bf16' or 'auto'")


WHOLE = ("steps", "batch_size", "micro_batch", "eval_every", "checkpoint_every")
MAY_LACK = ("steps", "micro_batch", "eval_every")


def check_usable(tasks: Sequence[Task], counts: Sequence[int], batch_size: int) -> None:
    """Raise ValueError for a task without records, or a contrast that would never see two at once."""
    for task, count in zip(tasks, counts, strict=True):
        if not count:
            raise ValueError(f"a task on {', '.join(task.towers)} has no usable record among {len(task.source)}")
        if isinstance(task, Contrast) and min(count, batch_size) < 2:
            few = f"batch_size is {batch_size}" if count > 1 else f"there is one usable record among {len(task.source)}"
            what = f"a contrast on {', '.join(task.towers)} tells records apart, so a batch needs at least 2"
            raise ValueError(f"{few}: {what}; a larger batch has more negatives")
