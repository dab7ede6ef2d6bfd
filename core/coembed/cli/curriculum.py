"""From what a run file says of hard negatives and stages to the objects; each fault with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coembed.cli.assemble import make
from coembed.curriculum import Component, Harder
from coembed.runfile import Run
from coembed.settings import Part, RunError

if TYPE_CHECKING:
    from coembed.tasks import Task
    from coembed.training.bank import Memory
    from coembed.training.batches import Batches
    from coembed.training.mining import Mined, Miner
    from coembed.training.stages import Stage


def built(plan: Harder) -> dict[str, Any]:
    """The arguments of a contrast, or a stage, that the run file gives."""
    parts = {
        "negatives": None if plan.negatives is None else _negatives(plan.negatives, f"{plan.where}.negatives"),
        "in_batch": plan.in_batch,
        "memory": None if plan.memory is None else _memory(plan.memory, f"{plan.where}.memory"),
        "batches": None if plan.batches is None else _batches(plan.batches, f"{plan.where}.batches"),
    }
    return {name: part for name, part in parts.items() if part is not None}


def build_stages(run: Run, tasks: Sequence[Task]) -> list[Stage] | None:
    """The stages of a run on its tasks; None for a run in one piece."""
    from coembed.training.stages import Stage

    if not run.stages:
        return None
    found = []
    for plan in run.stages:
        chosen = None if plan.tasks is None else [tasks[i] for i in plan.tasks]
        objective = None if plan.objective is None else make("objective", plan.objective)
        stage = Stage(**{**plan.settings, "tasks": chosen, "objective": objective, **built(plan.harder)})
        try:
            stage.of(tasks)
        except ValueError as error:
            raise RunError(f"{plan.where}: {error}") from error
        found.append(stage)
    return found


def _negatives(given: Mapping[str, Any] | str, where: str) -> Mined | Miner:
    from coembed.training.mining import Miner, negatives_given

    if isinstance(given, str):
        return _checked(lambda: negatives_given(given), where)  # type: ignore[no-any-return]
    Part(given, where).only(*Miner.__dataclass_fields__)
    options = dict(given)
    if "index" in options:
        options["index"] = _index(options["index"], f"{where}.index")
    return _checked(lambda: Miner(**options), where)  # type: ignore[no-any-return]


def _index(given: Any, where: str) -> Any:
    """A registered index that a miner makes when it looks."""
    options = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise RunError(f"{where}: the name of an index is expected, or {{name: …}} with its options; got {given!r}")

    def empty() -> Any:
        return make("index", Component(name, options, where))

    empty()  # a fault shows now, and not after the first stage
    empty.__name__ = f"{name} {options}" if options else name
    return empty


def _memory(given: Mapping[str, Any] | int, where: str) -> Memory:
    from coembed.training.bank import Memory

    options = dict(given) if isinstance(given, Mapping) else {"size": given}
    Part(options, where).only("size", "age")
    return _checked(lambda: Memory(**options), where)  # type: ignore[no-any-return]


def _batches(given: Mapping[str, Any] | str, where: str) -> Batches:
    from coembed.training import batches

    if isinstance(given, Mapping) and isinstance(inner := given.get("locality"), Mapping):
        if isinstance(inner.get("given"), Mapping):
            given = {**given, "locality": {**inner, "given": _negatives(inner["given"], f"{where}.locality.given")}}
    return _checked(lambda: batches.given(given), where)  # type: ignore[no-any-return]


def _checked(build: Any, where: str) -> Any:
    try:
        return build()
    except (TypeError, ValueError, OSError) as error:
        raise RunError(f"{where}: {error}") from error
