"""Indexes on disk: a folder of JSON and safetensors, replaced as a whole.

index.json     kind (a registered name), counts, provenance, and the files that belong to it
items.jsonl    one id and payload a line, in the order of the rows
and what the kind keeps beside them, such as vectors.safetensors
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FORMAT = 1
FACTS, ITEMS = "index.json", "items.jsonl"


class IndexFileError(ValueError):
    """A saved index that can't be read or written; the message names the file."""


@contextmanager
def replacing(folder: Path, facts: Mapping[str, Any]) -> Iterator[Path]:
    """A fresh folder to write an index's files to; on success it takes the place of `folder`, else nothing changes.

    `facts` goes into index.json: `kind` and what the kind needs. Raises IndexFileError if `folder` holds anything but
    a saved index.
    """
    folder = folder.resolve()  # a link stays a link: what it points to is replaced
    fresh, old = folder.with_name(f".{folder.name}.part"), _old(folder)
    if old.exists() and not folder.exists():  # a save was killed between the two renames below
        old.rename(folder)
    _check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    try:
        fresh.mkdir()
        yield fresh
        files = sorted({FACTS, *(path.name for path in fresh.iterdir())})
        text = json.dumps({"format": FORMAT, **facts, "files": files}, indent=2, ensure_ascii=False)
        (fresh / FACTS).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _check_replaceable(folder: Path) -> None:
    """Replacing removes what is there, so it must be known to be an index and nothing else."""
    if folder.exists() and not folder.is_dir():
        raise IndexFileError(f"{folder} is a file: name a folder for the index")
    found = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
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
        old = _old(folder.resolve())
        hint = f"; a save was interrupted: the last state is in {old}, rename it" if old.exists() else ""
        raise IndexFileError(f"{folder} is not a saved index: it has no {FACTS}{hint}") from error
    except ValueError as error:
        raise IndexFileError(f"{path}: damaged ({error})") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("kind"), str):
        raise IndexFileError(f"{path}: damaged: it names no kind of index")
    if facts.get("format") != FORMAT:
        raise IndexFileError(f"{path}: format {facts.get('format')!r}, this coembed reads {FORMAT}: upgrade coembed")
    lacking = [name for name in needed if name not in facts]
    if lacking:
        raise IndexFileError(f"{path}: damaged: it does not say {lacking[0]}")
    return facts


def write_items(folder: Path, ids: Sequence[str], payloads: Sequence[Any]) -> None:
    """Write items.jsonl."""
    with (folder / ITEMS).open("w", encoding="utf-8") as file:
        for name, payload in zip(ids, payloads, strict=True):
            line = {"id": name} if payload is None else {"id": name, "payload": payload}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_items(folder: Path, count: int) -> tuple[list[str], list[Any]]:
    """Ids and payloads from items.jsonl; raises IndexFileError naming it unless it has `count` whole lines."""
    path = folder / ITEMS
    ids: list[str] = []
    payloads: list[Any] = []
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                item = json.loads(line)
                ids.append(item["id"])
                payloads.append(item.get("payload"))
    except FileNotFoundError as error:
        raise IndexFileError(f"{path}: no such file; the index is not whole") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFileError(f"{path}, line {len(ids) + 1}: damaged or cut off ({error})") from error
    if len(ids) != count:
        raise IndexFileError(f"{path}: damaged or cut off: {count} lines are expected, it has {len(ids)}")
    return ids, payloads
