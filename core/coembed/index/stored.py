"""Stored: the segments of an exact index as files of its folder, read memory-mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from coembed import weights
from coembed.index.folder import IndexFileError, Writer, read_facts
from coembed.index.segment import Segment

_TRIES = 5  # readings of index.json, while a writer keeps replacing what it names


def write(writer: Writer, segment: Segment) -> None:
    """Write what of a segment is not in this folder yet: itself, and the marks of what is deleted."""
    if segment.file is None or not (writer.folder / segment.file).exists():
        path = writer.fresh("safetensors")
        weights.save(segment.to_tensors(), path)
        segment.file = path.name
        segment.gone_file = None
    if segment.gone is not None and (segment.gone_file is None or not (writer.folder / segment.gone_file).exists()):
        path = writer.fresh("gone.safetensors")
        weights.save({"gone": segment.gone}, path)
        segment.gone_file = path.name


def facts(segment: Segment) -> dict[str, Any]:
    """What index.json says of a segment that was written."""
    return {"file": segment.file, "gone": segment.gone_file, "rows": len(segment), "live": segment.live}


def read(folder: Path, *needed: str) -> tuple[dict[str, Any], list[Segment]]:
    """index.json and the segments that it names, one state of the index even while it is written to.

    Raises IndexFileError naming the file that is missing or damaged.
    """
    for last in [False] * (_TRIES - 1) + [True]:
        facts = read_facts(folder, "segments", "dim", *needed)
        try:
            return facts, [_segment(folder, entry, facts["dim"]) for entry in facts["segments"]]
        except IndexFileError:
            # A writer may have replaced index.json and removed what the one before it named.
            if last or read_facts(folder).get("version") == facts["version"]:
                raise
    raise AssertionError("the last try returns or raises")


def _segment(folder: Path, entry: dict[str, Any], dim: int | None) -> Segment:
    try:
        path, gone, rows = folder / entry["file"], entry["gone"], entry["rows"]
        segment = reopen(path, rows, dim)
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
        raise IndexFileError(text if str(path) in text else f"{path}: {text}") from error
    if segment.live != entry["live"]:
        raise IndexFileError(f"{path}: {segment.live} rows does not fit what index.json says ({entry['live']})")
    return segment


def reopen(path: Path, rows: int, dim: int | None) -> Segment:
    """A segment's file, memory-mapped; raises ValueError or KeyError if it does not fit."""
    segment = Segment.from_tensors(weights.read(path), path.name)
    if len(segment) != rows or segment.vectors.shape[1] != dim:
        raise ValueError(f"{list(segment.vectors.shape)} does not fit what index.json says")
    return segment
