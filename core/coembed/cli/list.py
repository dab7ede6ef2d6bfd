"""coembed list: the components of installed plugins or, with --all, of every known one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from coembed.cli import flags
from coembed.spec import KINDS


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    take = parser.add_argument
    take("--modality", metavar="M", help="only encoders of a modality")
    take("--kind", choices=list(KINDS), help="only components of a kind")
    take("--all", action="store_true", help="also what is known and not installed, with the command to install it")
    flags.add_json(parser, "the components")


def run(args: argparse.Namespace) -> int:
    """Load each plugin's light half, and list."""
    from coembed.cli import output
    from coembed.plugins import diagnose, plugins

    view = plugins()
    failed = []
    rows: list[dict[str, Any]] = []
    for name in view.installed():
        plugin = view.plugin(name)
        if plugin.error is not None and plugin.status != "blocked":
            cause = str(plugin.error) if plugin.status != "failed" else diagnose(plugin.error)
            failed.append({"plugin": name, "package": plugin.package, "error": cause})
        rows += [row(kind, plugin.package, spec.to_json(), True) for kind, spec in plugin]
    if args.all:
        rows += known(set(view.installed()))
    rows = [
        one
        for one in rows
        if args.kind in (None, one["kind"]) and (args.modality is None or one["modality"] == args.modality)
    ]
    if args.json:
        output.emit({"components": rows, "failed": failed})
        return 0
    for fault in failed:
        output.note(f"plugin {fault['plugin']} ({fault['package']}) is left out: {fault['error']}")
    if not rows:
        output.note(f"no component{_asked(args)}" + ("" if args.all else "; --all also lists what is not installed"))
        return 0
    head = ["name", "kind", "modality", "dim", "package", "licence", "what it is"]
    output.table(head, [_cells(one) for one in rows])
    return 0


def row(kind: str, package: str, facts: dict[str, Any], installed: bool) -> dict[str, Any]:
    """One component, with the same keys whatever its kind and wherever it was found."""
    keys = ("summary", "license", "extra", "modality", "dim", "output", "matryoshka", "layers", "weights")
    plugin = facts["name"].partition("/")[0]
    return {
        "name": facts["name"],
        "kind": kind,
        "package": package,
        "installed": installed,
        "install": None if installed else f"coembed install {plugin}",
        **{key: facts.get(key) for key in keys},
        "roles": list(facts.get("prompts") or {}),
    }


def known(installed: set[str]) -> Iterator[dict[str, Any]]:
    """The components that registry.yaml lists of plugins that are not installed."""
    from coembed import registry

    for plugin, facts in registry.known().items():
        if plugin not in installed:
            for kind, names in (facts.get("components") or {}).items():
                for name, own in names.items():
                    yield row(kind, facts["package"], {"name": name, **own}, False)


def _cells(one: dict[str, Any]) -> list[object]:
    any_width = "any" if one["kind"] == "encoder" and one["installed"] else None
    what = one["summary"] if one["installed"] else f"not installed: {one['install']}"
    return [
        *(one[key] for key in ("name", "kind", "modality")),
        one["dim"] if one["dim"] is not None else any_width,
        *(one[key] for key in ("package", "license")),
        what,
    ]


def _asked(args: argparse.Namespace) -> str:
    parts = [f" {flag} {value}" for flag, value in (("of kind", args.kind), ("of modality", args.modality)) if value]
    return "".join(parts)
