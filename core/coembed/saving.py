"""Spaces on disk: a folder of names, JSON and safetensors. Data never names code.

space.json                        towers: component names and arguments, what trains, fingerprints; the card
towers/NAME/aligner.safetensors   the head
towers/NAME/encoder/              weights and assets, where a name and a revision could not bring them back
towers/NAME/lora.safetensors      adapters over a checkpoint that is named, not copied
README.md                         the card, for people
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import coembed
from coembed import weights
from coembed.aligner import Aligner
from coembed.encoder import Encoder
from coembed.plugins import PluginError, load, locate, plugins
from coembed.space import Space
from coembed.tower import Tower

FORMAT = 1
# What a run and its indexes put into the same folder, and what a save that was killed leaves there.
BESIDE = {"history.jsonl", "history.part", "checkpoints", "tracking", "run.json", "index"}
HALF = {"towers", ".towers.part", ".space.json.part", ".README.md.part"}


class SpaceError(ValueError):
    """A saved space that can't be read or written; the message names the folder, the tower and the fix."""


def save_space(space: Space, folder: Path, *, copy_weights: bool) -> None:
    """Write a space; frozen checkpoints are kept by name and revision unless `copy_weights`.

    Everything is written beside the old files first and then put in their place. Raises SpaceError if the folder holds
    something that is not a space, or an argument of a component is not JSON.
    """
    present = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if "space.json" not in present and present - BESIDE - HALF:
        some = ", ".join(sorted(present - BESIDE - HALF)[:3])
        raise SpaceError(f"{folder} holds {some} but no space.json: choose an empty folder or a saved space")
    folder.mkdir(parents=True, exist_ok=True)
    fresh, towers = folder / ".towers.part", folder / "towers"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        described = {name: _save_tower(name, space[name], fresh / name, copy_weights) for name in space}
        facts = {"format": FORMAT, "coembed": coembed.__version__, "dim": space.dim, "towers": described}
        text = json.dumps({**facts, "card": space.card}, indent=2, ensure_ascii=False)
        (folder / ".space.json.part").write_text(text + "\n", encoding="utf-8")
        from coembed.card import render

        (folder / ".README.md.part").write_text(render(space, described), encoding="utf-8")
        shutil.rmtree(towers, ignore_errors=True)
        fresh.rename(towers)
        (folder / ".space.json.part").replace(folder / "space.json")
        (folder / ".README.md.part").replace(folder / "README.md")
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        for part in (".space.json.part", ".README.md.part"):
            (folder / part).unlink(missing_ok=True)


def _save_tower(name: str, tower: Tower, folder: Path, copy_weights: bool) -> dict[str, Any]:
    folder.mkdir(parents=True)
    weights.write(folder / "aligner.safetensors", tower.aligner.state_dict())
    encoder, adapted = tower.encoder, tower.train_word.startswith("lora:")
    copied = copy_weights or encoder.source is None or (tower.trained and not adapted)
    if adapted:
        from coembed.lora import adapters

        weights.write(folder / "lora.safetensors", adapters(encoder))
    if copied:
        encoder.save(folder / "encoder")
    return {
        "encoder": _component(name, encoder),
        "source": encoder.source,
        "copied": copied,
        "fingerprint": encoder.fingerprint(),
        "aligner": _component(name, tower.aligner),
        "train": tower.train_word,
        "trained": tower.trained,
        "locked": tower.locked,
        "sizes": list(tower.sizes),
        "exits": [list(exit) for exit in tower.exits],
    }


def _component(tower: str, part: Encoder | Aligner) -> dict[str, Any] | None:
    """A part's name, package and arguments; None for an object that no plugin offers."""
    spec = part.spec
    try:
        plugin, _, _ = plugins().find(spec.name) if spec is not None else (None, None, None)
    except PluginError:
        plugin = None
    if spec is None or plugin is None:
        return None
    try:
        json.dumps(dict(spec.kwargs))
    except TypeError as error:
        raise SpaceError(f"tower {tower}: an argument of {spec.name} can't be saved as JSON: {error}") from error
    return {"name": spec.name, "package": plugin.package, "kwargs": dict(spec.kwargs)}


def load_space(folder: Path, given: Mapping[str, Tower]) -> Space:
    """Read a space; `given` towers stand for those that were built from private objects.

    Raises SpaceError for a missing, damaged or newer space, a tower that needs a package that is not installed, and
    weights that have changed since the space was saved.
    """
    facts = _read_facts(folder)
    towers = {}
    for name, entry in facts["towers"].items():
        try:
            towers[name] = _load_tower(folder, name, entry, given.get(name))
        except PluginError as error:
            parts = [p for p in (entry["encoder"], entry["aligner"]) if p]
            needed = ", ".join(sorted({p["package"] for p in parts if p["package"] in str(error)} or {"a plugin"}))
            raise SpaceError(f"{folder}: tower {name} can't be loaded ({error}); it was saved with {needed}") from error
    space = Space(towers, dim=facts["dim"])
    space.card = facts["card"]
    return space


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / "space.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SpaceError(f"{folder} is not a saved space: it has no space.json") from error
    except ValueError as error:
        raise SpaceError(f"{path}: damaged ({error})") from error
    if facts.get("format") != FORMAT:
        raise SpaceError(f"{path}: format {facts.get('format')!r}, this coembed reads {FORMAT}: upgrade coembed")
    return facts


def _load_tower(folder: Path, name: str, entry: dict[str, Any], given: Tower | None) -> Tower:
    here = folder / "towers" / name
    if given is None:
        for part in ("encoder", "aligner"):
            if entry[part] is None:
                raise SpaceError(
                    f"{folder}: tower {name}'s {part} is a private object: pass towers={{{name!r}: Tower(…)}}"
                )
        encoder: Encoder = _build(entry["encoder"], "encoder", here / "encoder" if entry["copied"] else None)
        aligner: Aligner = _build(entry["aligner"], "aligner")
        tower = Tower(encoder, aligner, train=entry["train"])
    else:
        tower = given
        if entry["copied"]:
            tower.encoder.restore(here / "encoder")
    weights.load_into(tower.aligner, here / "aligner.safetensors", f"tower {name}'s aligner")
    if (here / "lora.safetensors").exists():
        tower.encoder.load_state_dict(weights.read(here / "lora.safetensors"), strict=False)
    tower.locked, tower.trained, tower.sizes = entry["locked"], entry["trained"], tuple(entry["sizes"])
    tower.exits = tuple((layer, dim) for layer, dim in entry.get("exits", []))  # none in older folders
    if tower.encoder.fingerprint() != entry["fingerprint"]:
        where = tower.encoder.source or "its own weights"
        raise SpaceError(f"{folder}: the encoder of tower {name} ({where}) is not the one it was saved with")
    return tower


def _build(component: dict[str, Any], kind: str, saved: Path | None = None) -> Any:
    try:
        if saved is None:
            return load(component["name"], kind, **component["kwargs"])
        target, _, spec = locate(component["name"], kind, component["kwargs"])
        # The arguments it was built with, whatever the entry says by now: they are part of its fingerprint.
        return target.open(replace(spec, kwargs=component["kwargs"]), saved)
    except PluginError as error:
        if component["package"] in str(error):
            raise
        raise PluginError(f"{error}; {component['name']} came from {component['package']}") from error
