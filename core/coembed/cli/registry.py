"""coembed registry: registry.yaml beside what the installed plugins say of themselves."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coembed.cli import UsageError, flags


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = "A listed plugin that is not installed is left as it is. Tiers are kept: a person grants them."
    take = parser.add_argument
    take("names", nargs="*", metavar="NAME", help="installed plugins to add to those that are listed")
    take("--check", action="store_true", help="exit code 1 if the file and the installed plugins disagree")
    take("--write", action="store_true", help="write what the installed plugins say")
    take("--file", metavar="PATH", help="another registry.yaml")
    flags.add_json(parser, "the differences")


def run(args: argparse.Namespace) -> int:
    """Compare, or write."""
    from coembed import registry
    from coembed.cli import output
    from coembed.plugins import PluginError, diagnose, plugins

    if args.check == args.write:
        raise UsageError("give --check or --write")
    path = Path(args.file) if args.file is not None else registry.path()
    data = read(path)
    entries: dict[str, Any] = data["plugins"]
    installed = plugins().installed()
    if missing := [name for name in args.names if name not in installed]:
        raise ValueError(f"{', '.join(missing)}: not installed; installed: {', '.join(installed)}")
    wanted = [name for name in dict.fromkeys([*entries, *args.names]) if name in installed]
    found: list[str] = []
    for name in wanted:
        plugin = plugins().plugin(name)
        if plugin.error is not None:
            raise PluginError(f"{name} ({plugin.package}) does not load: {diagnose(plugin.error)}") from plugin.error
        entry = entries.get(name, {"package": plugin.package, "tier": "community", "components": {}})
        if entry["package"] != plugin.package:
            raise ValueError(f"{path}: {name} belongs to {entry['package']}, but {plugin.package} claims it")
        now = registry.describe(plugins(), [name])["plugins"][name]["components"]
        found += [f"{name}: not listed"] if name not in entries else []
        found += registry.differences(name, entry.get("components") or {}, now)
        entries[name] = {**entry, "components": now}
    absent = [name for name in entries if name not in installed]
    if args.write and found:
        write(path, data)
    if args.json:
        output.emit({"file": str(path), "checked": wanted, "absent": absent, "differences": found})
    else:
        for line in found:
            print(line)
        if absent:
            output.note(f"not installed, so not compared: {', '.join(absent)}")
        state = (
            "was written"
            if args.write and found
            else "agrees"
            if not found
            else "disagrees: run `coembed registry --write`"
        )
        output.note(f"{path} {state} ({len(wanted)} plugins compared)")
    return int(args.check and bool(found))


def read(path: Path) -> dict[str, Any]:
    """The file as data; raises ValueError if it is not a registry."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict) or not isinstance(data.get("plugins"), dict):
        raise ValueError(f"{path}: a registry has `api` and `plugins`")
    return data


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Write the file: its leading comment kept, plugins in their order, one line a component."""
    import yaml

    lines = path.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)]]
    body = yaml.safe_dump(dict(data), sort_keys=False, default_flow_style=None, width=10_000, allow_unicode=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text("\n".join([*head, body]), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
