"""Run files: what `coembed align` shall train, as YAML that names components only and is checked key by key.

    towers:
      image: {encoder: image/timm, kwargs: {model: resnet18}, aligner: linear}
      text: text/minilm                     # short for {encoder: text/minilm}
    sources:
      - {path: pairs.jsonl, towers: {image: file, text: caption}, files: [image], group: subgroup}
    objective: {name: infonce, temperature: 0.05}
    fit: {epochs: 20, batch_size: 256, lr: 1e-3}
    dim: 256
    held_out: 0.1
    out: space

Paths are relative to the file. `tasks` replaces `objective` where sources or pairs of towers want different ones:
`{source: 0, towers: [image, text], objective: siglip, weight: 2}`, the source by number or by its `name`, or a list of
such, whose records then share batches. Hard negatives, memories and stages: see `coembed.curriculum`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coembed.curriculum import KEYS, Harder, StagePlan, harder, stages
from coembed.curriculum import Component as Component
from coembed.items import describe
from coembed.settings import Part, RunError, read_yaml

# The settings of `coembed.fit` that a run may give, with their types; a float takes an int.
FIT: dict[str, tuple[type, ...]] = {
    "epochs": (float,),
    "steps": (int,),
    "batch_size": (int,),
    "micro_batch": (int, str),
    "mixing": (float,),
    "lr": (float, dict),
    "layer_decay": (float,),
    "weight_decay": (float,),
    "warmup": (float,),
    "clip": (float,),
    "ema": (float,),
    "precision": (str,),
    "checkpointing": (bool,),
    "compile": (bool, str),
    "seed": (int,),
    "eval_every": (int,),
    "checkpoint_every": (int,),
    "tracker": (str,),
}
STAGE = ("steps", "epochs", "batch_size", "mixing", "lr", "layer_decay", "weight_decay", "warmup", "clip")
MAY_BE_ZERO = ("weight_decay", "warmup", "clip", "seed")


@dataclass(frozen=True)
class TowerPlan:
    """One tower to build; `train` None means "all" for an encoder made from scratch and "none" for a checkpoint."""

    encoder: Component
    aligner: Component
    train: str | None = None


@dataclass(frozen=True)
class SourcePlan:
    """One source to open: a component, or without one a path whose suffix says how it is read."""

    name: str
    component: Component
    rename: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskPlan:
    """One task: a contrast by an objective, or a pretext of one tower."""

    sources: tuple[int, ...]
    towers: tuple[str, ...]
    component: Component
    pretext: bool = False
    weight: float = 1.0
    pairs: tuple[tuple[str, str, float], ...] | None = None  # two towers and their weight
    same: str = "content"
    roles: Mapping[str, str] = field(default_factory=dict)
    harder: Harder = field(default_factory=Harder)
    name: str = ""
    where: str = ""

    @property
    def source(self) -> int:
        """The first source."""
        return self.sources[0]


@dataclass(frozen=True)
class Run:
    """Everything a run is made of; `tasks` empty means `objective` on every pair of towers that a source has."""

    towers: Mapping[str, TowerPlan]
    sources: tuple[SourcePlan, ...]
    objective: Component
    tasks: tuple[TaskPlan, ...] = ()
    stages: tuple[StagePlan, ...] = ()
    dim: int | None = None
    fit: Mapping[str, Any] = field(default_factory=dict)
    held_out: float = 0.1
    device: str = "auto"
    out: Path | None = None


def read(path: Path) -> Run:
    """The run that a file describes; raises RunError naming file, line and key, and OSError if it can't be read."""
    return parse(read_yaml(path), path.parent)


def parse(top: Part, folder: Path) -> Run:
    """The run that a mapping describes; paths are taken relative to `folder`. Raises RunError."""
    top.only("towers", "sources", "source", "tasks", "stages", "objective", "dim", "fit", "held_out", "device", "out")
    towers = {name: _tower(part) for name, part in top.parts("towers", short="encoder").items()}
    if len(towers) < 1:
        raise RunError(f"{top.at()}: no towers; give towers: {{NAME: ENCODER}}")
    sources = source_plans(top, folder)
    tasks = tuple(_task(part, towers, sources, folder, i) for i, part in enumerate(top.listed("tasks")))
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise RunError(f"{top.at('tasks')}: two tasks have one name: {', '.join(names)}")
    if tasks and "objective" in top.data:
        raise RunError(f"{top.at('objective')}: give an objective to each of the tasks, or no tasks")
    dim, held_out = top.get("dim", int), top.get("held_out", float, 0.1)
    if dim is not None and dim < 1:
        raise RunError(f"{top.at('dim')}: {dim} must be positive")
    if not 0 <= held_out < 1:
        raise RunError(f"{top.at('held_out')}: {held_out} must be a share of the groups, from 0 to less than 1")
    out = top.get("out", str)
    return Run(
        towers,
        sources,
        _component(top, "objective", "infonce"),
        tasks,
        stages(top, folder, names, STAGE, _fit, _component),
        dim,
        _fit(top.part("fit")),
        held_out,
        top.get("device", str, "auto"),
        folder / out if out is not None else None,
    )


def _tower(part: Part) -> TowerPlan:
    part.only("encoder", "kwargs", "aligner", "pool", "train")
    encoder = Component(part.need("encoder", str), part.get("kwargs", dict, {}), part.at("encoder"))
    aligner = _component(part, "aligner", "linear")
    pool = part.get("pool", str)
    if pool is not None:
        aligner = Component(aligner.name, {**aligner.options, "pool": pool}, aligner.where)
    return TowerPlan(encoder, aligner, part.get("train", str))


def _component(part: Part, key: str, default: str) -> Component:
    """`key: NAME`, or `key: {name: NAME, option: value, …}`."""
    if not isinstance(part.data.get(key), Mapping):
        return Component(part.get(key, str, default), {}, part.at(key))
    inner = part.part(key)
    options = {name: value for name, value in inner.data.items() if name != "name"}
    return Component(inner.need("name", str), options, inner.at())


def source_plans(top: Part, folder: Path) -> tuple[SourcePlan, ...]:
    """The sources under `sources: [...]`, or `source: …` where there is one; raises RunError."""
    if "source" in top.data and "sources" in top.data:
        raise RunError(f"{top.at('source')}: give source or sources, not both")
    parts = top.listed("sources", short="source") or top.listed("source", short="source", single=True)
    plans = tuple(_source(part, folder, i) for i, part in enumerate(parts))
    if not plans:
        raise RunError(f"{top.at()}: no sources; give sources: [{{path: pairs.jsonl}}], or the name of a source")
    if len({plan.name for plan in plans}) < len(plans):
        raise RunError(f"{top.at('sources')}: two sources have one name: {', '.join(plan.name for plan in plans)}")
    return plans


def _source(part: Part, folder: Path, number: int) -> SourcePlan:
    """Every key beside `name`, `source` and `rename` is an argument of the source itself."""
    name, path = part.get("source", str), part.get("path", str)
    if name is None and path is None:
        raise RunError(f"{part.at()}: a source needs 'source' (a registered name) or 'path' (a file or folder)")
    options = {key: value for key, value in part.data.items() if key not in ("name", "source", "rename")}
    if path is not None:
        options["path"] = str(folder / path)
    label = part.get("name", str, name or path or str(number))
    return SourcePlan(label, Component(name or "", options, part.at()), part.get("rename", dict, {}))


def _sources(part: Part, names: Sequence[str]) -> tuple[int, ...]:
    """The sources of a task, by number."""
    given = part.get("source", (int, str, list), 0 if len(names) == 1 else None)
    if given is None:
        raise RunError(f"{part.at()}: there are several sources: name the task's, of {', '.join(names)}")
    found = []
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, str):
            part.known("source", [one], names)
            one = names.index(one)
        elif isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < len(names):
            raise RunError(f"{part.at('source')}: {one!r}: there are {len(names)} sources, counted from 0")
        found.append(one)
    if not found or len(set(found)) < len(found):
        raise RunError(f"{part.at('source')}: give each source of the task once")
    return tuple(found)


def _task(
    part: Part, towers: Mapping[str, TowerPlan], sources: tuple[SourcePlan, ...], folder: Path, number: int
) -> TaskPlan:
    part.only("name", "source", "towers", "objective", "pretext", "weight", "pairs", "same", "roles", *KEYS)
    given = _sources(part, [source.name for source in sources])
    pairs = part.get("pairs", list)
    chosen = part.get("towers", list, list(towers))
    part.known("towers", chosen, towers)
    for pair in pairs or []:
        if not isinstance(pair, list) or len(pair) not in (2, 3) or not _is_weight(pair[2:]):
            wanted = "a list of pairs of towers is expected, each with a weight or without"
            raise RunError(f"{part.at('pairs')}: {wanted}, like [[image, text], [dna, text, 2.0]]; got {pair!r}")
        part.known("pairs", pair[:2], chosen)
    pretext = "pretext" in part.data
    if pretext and ("objective" in part.data or len(chosen) != 1):
        raise RunError(f"{part.at('pretext')}: a pretext has no objective and trains one tower: towers: [NAME]")
    if pretext and (key := next((key for key in KEYS if key in part.data), None)):
        raise RunError(f"{part.at(key)}: a pretext compares no records: that is for contrasts")
    weight = part.get("weight", float, 1.0)
    if weight <= 0:
        raise RunError(f"{part.at('weight')}: {weight} must be positive")
    return TaskPlan(
        given,
        tuple(chosen),
        _component(part, "pretext" if pretext else "objective", "infonce"),
        pretext,
        weight,
        tuple((a, b, float(*weight or [1.0])) for a, b, *weight in pairs) if pairs else None,
        part.get("same", str, "content"),
        part.get("roles", dict, {}),
        harder(part, folder),
        part.get("name", str, str(number)),
        part.at(),
    )


def _is_weight(given: list[Any]) -> bool:
    return all(isinstance(w, (int, float)) and not isinstance(w, bool) and 0 < w < float("inf") for w in given)


def _fit(part: Part, known: Sequence[str] = tuple(FIT)) -> dict[str, Any]:
    part.only(*known)
    settings = {key: part.get(key, FIT[key]) for key in known if key in part.data}
    if isinstance(rows := settings.get("micro_batch"), str) and rows != "auto":
        raise RunError(f"{part.at('micro_batch')}: {rows!r}: a number of rows is expected, or auto")
    for key, value in settings.items():
        for name, number in value.items() if isinstance(value, dict) else [(None, value)]:
            where = part.at(key) if name is None else part.at(key, name)
            if isinstance(value, dict) and (isinstance(number, bool) or not isinstance(number, (int, float))):
                raise RunError(f"{where}: a number is expected, got {describe(number)}")
            if not isinstance(number, (str, bool)) and (number < 0 or (number == 0 and key not in MAY_BE_ZERO)):
                raise RunError(f"{where}: {number} must be {'at least 0' if key in MAY_BE_ZERO else 'positive'}")
    return settings
