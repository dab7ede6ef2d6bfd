"""A source from whatever someone gives as one: the object, a registered name, a file or folder, a list of records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coembed.items import describe
from coembed.plugins import load
from coembed.sources.base import Record, Records, Source
from coembed.sources.files import open_source

HOW = "Records.pairs(image=[…], text=[…]) makes one from columns, Records([Record({…}, id='0'), …]) from records"


def source_from(given: Any) -> Source:
    """The source that is given: as it is, by registered name, by path (see `open_source`), or a list of records.

    Raises TypeError saying what was given and how to make a source of it, PluginError or FileNotFoundError for a name
    or a path that leads nowhere.

    >>> len(source_from([Record({"text": "a"}, id="1")]))
    1
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, Path) or (isinstance(given, str) and _is_path(given)):
        return open_source(given)
    if isinstance(given, str):
        found: Source = load(given, "source")
        return found
    if isinstance(given, (list, tuple)) and all(isinstance(record, Record) for record in given):
        return Records(given)
    what = f"a {type(given).__name__}"
    if isinstance(given, (list, tuple)):
        position, other = next((i, item) for i, item in enumerate(given) if not isinstance(item, Record))
        what += f" whose element {position} is {describe(other)}"
    if hasattr(given, "loss") and hasattr(given, "usable"):
        raise TypeError(f"a source of records is expected, got {what}, which is a task: fit(space, tasks=[task])")
    raise TypeError(f"a source of records is expected, got {what}: {HOW}")


def _is_path(given: str) -> bool:
    suffixes = {suffix.lower() for suffix in Path(given).suffixes}
    return bool(suffixes & {".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"}) or Path(given).exists()
