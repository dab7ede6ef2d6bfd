"""Flags that several commands share, and what they mean."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def assignment(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as a pair, for argparse."""
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default: auto)")


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """--json; what it prints is described in docs/json.md."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON (see docs/json.md)")


def add_options(parser: argparse.ArgumentParser, of: str) -> None:
    """--set KEY=VALUE: arguments of a component."""
    parser.add_argument(
        "--set", type=assignment, action="append", default=[], metavar="KEY=VALUE", help=f"an argument of {of}"
    )


def options(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """What --set gave, values read as YAML reads them."""
    from coembed.settings import scalar

    return {key: scalar(value) for key, value in pairs}


def add_sources(parser: argparse.ArgumentParser) -> None:
    """--source and how its columns are read."""
    take = parser.add_argument
    take(
        "--source",
        action="append",
        default=[],
        metavar="SOURCE",
        help="a registered source, or a .jsonl, .csv, .tsv or .parquet file, or a folder; may be repeated",
    )
    take(
        "--map",
        type=assignment,
        action="append",
        default=[],
        metavar="TOWER=COLUMN",
        help="which column a tower reads (of a folder: its suffixes, as image=.png,.jpg; of a registered source: "
        "which of its towers)",
    )
    take("--files", action="append", default=[], metavar="TOWER", help="a tower whose cells are paths of files")
    for role, meaning in [
        ("id", "names each record"),
        ("group", "keeps near-duplicates on one side of the split"),
        ("label", "marks records that match each other"),
    ]:
        take(f"--{role}", metavar="COLUMN", help=f"the column that {meaning}")


def sources(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What --source and its fellows gave, as the entries that a run file would have."""
    mapped = dict(args.map)
    entries = []
    for text in args.source:
        if registered(text):
            entries.append({"source": text, "rename": {column: tower for tower, column in mapped.items()}})
            continue
        path = Path(text)
        if not path.exists():
            raise FileNotFoundError(f"{text}: no such file or folder, and no source of that name is installed")
        columns: dict[str, Any] = mapped
        if path.is_dir() and not any(path.glob("*.parquet")):
            columns = {tower: suffixes.split(",") for tower, suffixes in mapped.items()}
        given = {"towers": columns, "files": args.files, "id": args.id, "group": args.group, "label": args.label}
        entries.append({"path": text, **{key: value for key, value in given.items() if value}})
    return entries


def registered(text: str) -> bool:
    """Whether a text names a source: its plugin is installed, or known; `./` before it makes it a path."""
    from coembed import registry
    from coembed.plugins import CORE, plugins
    from coembed.spec import NAME

    if not NAME.fullmatch(text):
        return False
    prefix = text.partition("/")[0] if "/" in text else CORE
    if prefix in plugins().installed():
        plugin = plugins().plugin(prefix)
        found = plugin.find(text)
        # A plugin that failed may well have had it: asking for it says why it failed.
        return (found is not None and found[0] == "source") or (plugin.error is not None and not Path(text).exists())
    return text in registry.components()
