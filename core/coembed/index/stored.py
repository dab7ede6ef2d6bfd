"""Stored: the segments of an index as files of its folder, read memory-mapped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from coembed import weights
from coembed.index.folder import IndexFileError, Writer, read_facts
from coembed.index.segment import Segment

Opened = TypeVar("Opened")
_TRIES = 5  # readings of index.json, while a writer keeps replacing what it names


def write(writer: Writer, segment: Segment) -> None:
    """Write what of a segment is not in this folder yet: itself, and the marks of what is deleted."""
    if segment.file is None or not (writer.folder / segment.file).exists():
        path = writer.fresh("safetensors")
        weights.save(segment.to_tensors(), path)
        segment.file = path.name
        segment.gone_file = segment.codes_file = None
    if segment.codes and (segment.codes_file is None or not (writer.folder / segment.codes_file).exists()):
        path = writer.fresh("codes.safetensors")
        weights.save({name: codes.contiguous() for name, codes in segment.codes.items()}, path)
        segment.codes_file = path.name
    if segment.gone is not None and (segment.gone_file is None or not (writer.folder / segment.gone_file).exists()):
        path = writer.fresh("gone.safetensors")
        weights.save({"gone": segment.gone}, path)
        segment.gone_file = path.name


def facts(segment: Segment) -> dict[str, Any]:
    """What index.json says of a segment that was written."""
    named = {"file": segment.file, "gone": segment.gone_file, "rows": len(segment), "live": segment.live}
    return named if segment.codes_file is None else named | {"codes": segment.codes_file}


def files(segment: Segment) -> list[str]:
    """The files of a segment that was written."""
    return [name for name in (segment.file, segment.gone_file, segment.codes_file) if name is not None]


def weight(segment: Segment, folder: Path | None) -> int:
    """Bytes on disk of a segment; of one that was not written to `folder`, what it would be."""
    path = None if folder is None or segment.file is None else folder / segment.file
    if path is not None and path.exists():
        rows = path.stat().st_size
    else:
        rows = sum(tensor.nbytes for tensor in segment.to_tensors().values())
    gone = 0 if segment.gone is None else segment.gone.nbytes
    return rows + gone + sum(codes.nbytes for codes in segment.codes.values())


def read(
    folder: Path, open_rest: Callable[[dict[str, Any]], Opened], *needed: str, sketched: bool
) -> tuple[dict[str, Any], list[Segment], Opened]:
    """index.json, the segments that it names, and what else an index opens: one state even while it is written to.

    Raises IndexFileError naming the file that is missing or damaged.
    """
    for last in [False] * (_TRIES - 1) + [True]:
        facts = read_facts(folder, "segments", "dim", *needed)
        try:
            rest = open_rest(facts)
            return facts, [_segment(folder, entry, facts["dim"], sketched) for entry in facts["segments"]], rest
        except IndexFileError:
            # A writer may have replaced index.json and removed what the one before it named.
            if last or read_facts(folder).get("version") == facts["version"]:
                raise
    raise AssertionError("the last try returns or raises")


def _segment(folder: Path, entry: dict[str, Any], dim: int | None, sketched: bool) -> Segment:
    try:
        path, gone, rows = folder / entry["file"], entry["gone"], entry["rows"]
        coded = entry.get("codes")
        segment = reopen(path, rows, dim, None if coded is None else folder / coded, sketched)
        if gone is not None:
            path = folder / gone
            marks = weights.read(path)["gone"]
            if marks.dtype != torch.bool or len(marks) != rows:
                raise ValueError("it does not fit what index.json says")
            segment.gone, segment.gone_file = marks.clone(), gone
    except (KeyError, TypeError) as error:
        raise IndexFileError(f"{path}: damaged: it does not say {error}") from error
    except ValueError as error:
        text = str(error)
        raise IndexFileError(text if str(folder) in text else f"{path}: {text}") from error
    if segment.live != entry["live"]:
        raise IndexFileError(f"{path}: {segment.live} rows does not fit what index.json says ({entry['live']})")
    return segment


def reopen(path: Path, rows: int, dim: int | None, coded: Path | None = None, sketched: bool = True) -> Segment:
    """A segment's file and that of its codes, memory-mapped; raises ValueError or KeyError if they do not fit."""
    codes = None if coded is None else weights.read(coded)
    segment = Segment.from_tensors(weights.read(path), path.name, codes, sketched)
    segment.codes_file = None if coded is None else coded.name
    kept = segment.vectors
    if len(segment) != rows or kept.ndim != 2 or kept.shape[1] not in ((dim,) if sketched else (dim, 0)):
        raise ValueError(f"{list(kept.shape)} does not fit what index.json says")
    return segment
