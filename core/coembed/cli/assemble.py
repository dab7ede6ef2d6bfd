"""From the plan of a run to its objects: sources, towers, tasks, each option checked before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from coembed.plugins import PluginError, load, plugins
from coembed.runfile import Component, Run, SourcePlan, TaskPlan
from coembed.settings import Part, RunError
from coembed.spec import SpecError, resolve

if TYPE_CHECKING:
    from coembed.encoder import Encoder
    from coembed.sources import Records, Source
    from coembed.space import Space
    from coembed.tasks import Task
    from coembed.tower import Tower

GIVEN = ("self", "spec", "in_dim", "out_dim", "source", "tower")  # what the caller of a component fills in itself


def make(kind: str, component: Component, **given: Any) -> Any:
    """Build a component by name; a fault of its options is raised with the place that gave them."""
    options = dict(component.options)
    if isinstance(inner := options.get("objective"), dict):  # a wrapper such as matryoshka
        name = inner.get("name", "")
        rest = {key: value for key, value in inner.items() if key != "name"}
        options["objective"] = make("objective", Component(name, rest, f"{component.where}.objective"))
    try:
        _, _, spec = plugins().find(component.name, kind)
        check_options(component, spec.target, component.name, given)
        return load(component.name, kind, **options, **given)
    except PluginError as error:
        raise PluginError(f"{component.where}: {error}") from error
    except RunError:
        raise
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise RunError(f"{component.where}: {component.name}: {error}") from error


def check_options(component: Component, target: str, name: str, given: dict[str, Any] | None = None) -> None:
    """Raise RunError for an option that the class does not take, naming those near it."""
    import inspect

    try:
        parameters = inspect.signature(resolve(target)).parameters
    except (ImportError, SpecError, ValueError, TypeError):
        return  # building it says what is wrong, and better
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [key for key in parameters if key not in GIVEN and key not in (given or {})]
    Part(component.options, f"{component.where}: {name}").only(*known)


def open_sources(plans: Sequence[SourcePlan]) -> list[Source]:
    """The sources of a run, with their towers renamed as asked."""
    return [_open(plan) for plan in plans]


def _open(plan: SourcePlan) -> Source:
    component = plan.component
    if component.name:
        opened: Source = make("source", component)
    else:
        from coembed.sources import open_source

        check_options(component, "coembed.sources:open_source", "a file or folder")
        try:
            opened = open_source(**component.options)
        except (TypeError, ValueError) as error:
            raise RunError(f"{component.where}: {error}") from error
    return opened.rename(plan.rename) if plan.rename else opened


def split(
    sources: Sequence[Source], names: Sequence[str], share: float, seed: int
) -> tuple[list[Source], Records | None]:
    """Each source's training records, and the held-out ones of all; whole groups on one side."""
    for name, source in zip(names, sources, strict=True):
        if next(iter(source), None) is None:
            raise ValueError(f"source {name} has no records")
    if share == 0:
        return list(sources), None
    sides = []
    for name, source in zip(names, sources, strict=True):
        try:
            sides.append(source.split(share, seed))
        except ValueError as error:
            raise ValueError(f"source {name}: {error}; give more records, or held_out 0") from error
    return [train for train, _ in sides], combine([held for _, held in sides], names)


def combine(sources: Sequence[Source], names: Sequence[str]) -> Records:
    """The records of several sources as one; ids get the name of their source where there are several."""
    from coembed.sources import Records, joined

    return Records(sources[0]) if len(sources) == 1 else joined(dict(zip(names, sources, strict=True)))


def build_space(run: Run, seed: int) -> Space:
    """The towers of a run, with random weights drawn from the seed; on the run's device."""
    from coembed.nn.seeding import counter, seeded
    from coembed.space import Space

    encoders: dict[str, Encoder] = {}
    for name, plan in run.towers.items():
        with seeded(counter(seed, "encoder", name)):  # by name: one tower more leaves the others as they were
            encoders[name] = make("encoder", plan.encoder)
    dim = run.dim or min(encoder.dim for encoder in encoders.values())
    towers = {}
    for name, encoder in encoders.items():
        with seeded(counter(seed, "aligner", name)):
            towers[name] = _tower(run, name, encoder, dim)
    return Space(towers, dim=dim, device=run.device)


def _tower(run: Run, name: str, encoder: Encoder, dim: int) -> Tower:
    from coembed.aligner import pool_of
    from coembed.closed import ClosedForm
    from coembed.tower import Tower

    plan = run.towers[name]
    try:
        native = pool_of(plan.aligner.name, plan.aligner.options) == "native"
    except PluginError as error:
        raise PluginError(f"{plan.aligner.where}: {error}") from error
    aligner = make("aligner", plan.aligner, in_dim=encoder.dim if native else encoder.token_dim, out_dim=dim)
    if isinstance(aligner, ClosedForm):
        kind = type(aligner).__name__
        raise RunError(
            f"{plan.aligner.where}: {plan.aligner.name} is solved for, not trained: use coembed.closed.{kind}.fit"
        )
    scratch = encoder.source is None and any(True for _ in encoder.parameters())
    try:
        return Tower(encoder, aligner, train=plan.train or ("all" if scratch else "none"))
    except ValueError as error:
        raise RunError(f"{plan.encoder.where}: {error}") from error


def build_tasks(run: Run, space: Space, sources: Sequence[Source]) -> list[Task]:
    """The tasks of a run; without any in the plan, its objective on every pair of towers that records share."""
    from coembed.tasks import Contrast

    if run.tasks:
        names = [source.name for source in run.sources]
        return [
            _task(plan, combine([sources[i] for i in plan.sources], [names[i] for i in plan.sources]), space)
            if len(plan.sources) > 1
            else _task(plan, sources[plan.source], space)
            for plan in run.tasks
        ]
    tasks: list[Task] = []
    for plan, source in zip(run.sources, sources, strict=True):
        shared = {pair for record in source for pair in combinations([t for t in space if t in record], 2)}
        if not shared:
            have = ", ".join(source.towers) or "nothing"
            raise RunError(
                f"{plan.component.where}: no record of {plan.name} has items for two towers: records have {have}, "
                f"the towers are {', '.join(space)}"
            )
        for pair in combinations(space, 2):
            if pair in shared:
                tasks.append(Contrast(source, pair, make("objective", run.objective)))
    unused = set(space) - {tower for task in tasks for tower in task.towers}
    if unused:
        raise RunError(f"no record of any source has an item for {', '.join(sorted(unused))} and for another tower")
    return tasks


def _task(plan: TaskPlan, source: Source, space: Space) -> Task:
    from coembed.cli.curriculum import built
    from coembed.tasks import Contrast

    if plan.pretext:
        pretext: Task = make("pretext", plan.component, source=source, tower=plan.towers[0])
        pretext.weight = plan.weight
        return pretext
    try:
        return Contrast(
            source,
            plan.towers,
            make("objective", plan.component),
            weight=plan.weight,
            pairs={(a, b): share for a, b, share in plan.pairs} if plan.pairs else None,
            same=plan.same,
            roles=plan.roles,
            **built(plan.harder),
        )
    except ValueError as error:
        raise error if isinstance(error, RunError) else RunError(f"{plan.where}: {error}") from error
