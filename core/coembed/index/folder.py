"""Indexes on disk: a folder of index.json and the files that it names.

Files are written once, under fresh names, and never changed. index.json, replaced in one step, says which of them make
up the index now: a reader sees the state before or the state after, and a writer that dies leaves the last good one.
One process writes at a time, under a lock that goes with the process.

index.json     kind (a registered name), version (another one after every change), counts, provenance, files
.lock          held by the process that writes
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from coembed.weights import remove

FORMAT = 2
FACTS, LOCK = "index.json", ".lock"
_OURS = "part-"  # what fresh files begin with: what a dead writer left is known by it


class IndexFileError(ValueError):
    """A saved index that can't be read or written; the message names the file."""


class Writer:
    """The one writer of an index's folder; `writing` opens it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def version(self) -> str | None:
        """The version of the index that is there; None if there is none."""
        return str(read_facts(self.folder)["version"]) if (self.folder / FACTS).exists() else None

    def fresh(self, ending: str) -> Path:
        """A path for a new file of the index; it counts once `commit` names it."""
        return self.folder / f"{_OURS}{secrets.token_hex(6)}.{ending}"

    def commit(self, facts: Mapping[str, Any], files: Iterable[str]) -> str:
        """Make index.json say `facts` and name these files; then remove all others. Returns the new version.

        `facts` holds `kind` and what the kind needs.
        """
        names, version = sorted({FACTS, *files}), secrets.token_hex(8)
        for name in names:
            if name != FACTS:
                _sync(self.folder / name)
        text = json.dumps({"format": FORMAT, "version": version, **facts, "files": names}, indent=2, ensure_ascii=False)
        part = self.fresh("json")
        part.write_text(text + "\n", encoding="utf-8")
        _sync(part)
        part.replace(self.folder / FACTS)
        _sync(self.folder)
        self.clean()
        return version

    def clean(self) -> None:
        """Remove the files that index.json does not name: superseded ones, and what a dead writer left."""
        known = set(read_facts(self.folder)["files"]) if (self.folder / FACTS).exists() else set()
        for path in self.folder.iterdir():
            if path.name not in known and path.name.startswith(_OURS):
                with suppress(PermissionError):  # Windows keeps what a reader has mapped; the next writer tries again
                    remove(path)


@contextmanager
def writing(folder: Path | str) -> Iterator[Writer]:
    """Hold the lock of an index's folder, made if it is not there; within one process it may be held twice.

    Raises IndexFileError if another process writes there, or the folder holds anything but a saved index. Folders
    that were made for this and stay empty are removed again.
    """
    folder = Path(folder).resolve()  # a link stays a link: what it points to is written
    _check_replaceable(folder)
    if folder in _held:
        yield Writer(folder)
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        _lock(file, folder)
        _held.add(folder)
        try:
            yield Writer(folder)
        finally:
            _held.discard(folder)
            with suppress(OSError, IndexFileError):
                Writer(folder).clean()
            if made and not (folder / FACTS).exists():
                (folder / LOCK).unlink(missing_ok=True)
                with suppress(OSError):
                    for path in made:
                        path.rmdir()


_held: set[Path] = set()


def _lock(file: IO[str], folder: Path) -> None:
    """The system lets go of this lock when the process ends, however it ends."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read(32).strip() or "?"
        raise IndexFileError(
            f"{folder}: process {holder} is writing to this index: wait until it is done, or write elsewhere"
        ) from error
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()


def _sync(path: Path) -> None:
    """To the disk, not only to the system's memory: the order of steps must survive a power cut."""
    with suppress(PermissionError):  # Windows opens no folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _check_replaceable(folder: Path) -> None:
    """Writing removes what is there, so it must be known to be an index and nothing else."""
    if folder.exists() and not folder.is_dir():
        raise IndexFileError(f"{folder} is a file: name a folder for the index")
    found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    found = [name for name in found if name != LOCK and not name.startswith(_OURS)]
    if found and FACTS not in found:
        raise IndexFileError(f"{folder} holds {found[0]} but no {FACTS}: choose an empty folder or a saved index")
    if found:
        strange = set(found) - set(read_facts(folder).get("files", []))
        if strange:
            raise IndexFileError(f"{folder} holds {min(strange)}, which is not part of the index: move it away")


def read_facts(folder: Path, *needed: str) -> dict[str, Any]:
    """index.json of a saved index; raises IndexFileError if it is missing, damaged, newer, or lacks a needed fact."""
    path = folder / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IndexFileError(f"{folder} is not a saved index: it has no {FACTS}") from error
    except ValueError as error:
        raise IndexFileError(f"{path}: damaged ({error})") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("kind"), str):
        raise IndexFileError(f"{path}: damaged: it names no kind of index")
    if facts.get("format") != FORMAT:
        raise IndexFileError(
            f"{path}: format {facts.get('format')!r}, this coembed reads {FORMAT}: upgrade coembed, or make it again"
        )
    lacking = [name for name in ("version", "files", *needed) if name not in facts]
    if lacking:
        raise IndexFileError(f"{path}: damaged: it does not say {lacking[0]}")
    return facts
