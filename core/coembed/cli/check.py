"""coembed check: hold a plugin to every promise that it makes."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from coembed.cli import flags

if TYPE_CHECKING:
    from coembed.plugins import Plugin
    from coembed.testing import Result


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = (
        "Components are built small, with random weights, and without a network. A result is ok, failed, or - for what "
        "the component does not claim. Exit code 1 if one fails. In pytest: `from coembed.testing import conformance`, "
        "then `test = conformance(PLUGIN)`."
    )
    take = parser.add_argument
    take("plugin", metavar="PLUGIN", help="an installed plugin, by entry point or package")
    take("-k", dest="only", default="", metavar="SUBSTRING", help="only where COMPONENT-CHECK contains this")
    flags.add_json(parser, "the results")


def run(args: argparse.Namespace) -> int:
    """Run every case, one after the other."""
    from coembed.cli import output
    from coembed.progress import bar
    from coembed.testing import cases
    from coembed.testing import run as outcome

    plugin = named(args.plugin)
    with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is no part of the results
        everything = list(cases(plugin.name))
    chosen = [case for case in everything if args.only in case.id]
    if not chosen:
        known = ", ".join(dict.fromkeys(case.check for case in everything))
        raise ValueError(f"no check on {plugin.name} contains {args.only!r}; its checks: {known}")
    results = []
    with bar("check", len(chosen), unit="checks") as advance:
        for case in chosen:
            with contextlib.redirect_stdout(sys.stderr):
                results.append(outcome(case))
            advance(1, component=case.component, failed=sum(result.status == "failed" for result in results))
    failed = [result for result in results if result.status == "failed"]
    if args.json:
        facts = {"plugin": plugin.name, "package": plugin.package, "version": plugin.version, "holds": not failed}
        output.emit({**facts, "results": [row(result) for result in results]})
    else:
        table = [[r.case.component, r.case.check, r.status, r.seconds] for r in results]
        output.table(["component", "check", "result", "seconds"], table)
        for result in failed:
            print(f"{result.case.component} {result.case.check}: {result.reason}")
        for reason in dict.fromkeys(result.reason for result in results if result.missing):
            output.note(f"not checked: {reason}")
        count = {status: sum(result.status == status for result in results) for status in ("ok", "failed", "-")}
        seconds = sum(result.seconds for result in results)
        output.note(
            f"{plugin.name} ({plugin.package} {plugin.version}): {count['ok']} ok, {count['failed']} failed, "
            f"{count['-']} not claimed, in {seconds:.1f} s"
        )
    return int(bool(failed))


def row(result: Result) -> dict[str, object]:
    """One result as JSON types."""
    case = result.case
    facts = {"component": case.component, "kind": case.kind, "check": case.check, "asks": case.asks}
    return {**facts, "status": result.status, "seconds": round(result.seconds, 4), "reason": result.reason or None}


def named(name: str) -> Plugin:
    """The installed plugin of an entry point or package; raises PluginError with the near names, or how to install."""
    from coembed import registry
    from coembed.install import normal
    from coembed.plugins import PluginError, plugins

    installed = plugins().installed()
    found = [plugin for plugin in installed.values() if normal(name) == normal(plugin.package)]
    if name in installed or len(found) == 1:
        return installed.get(name) or found[0]
    if found:
        raise PluginError(f"{name} brings {', '.join(plugin.name for plugin in found)}: name one of them")
    for known, facts in registry.known().items():
        if name in (known, facts["package"]):
            raise PluginError(f"{facts['package']} is not installed: run `coembed install {known}`")
    names = [*installed, *(plugin.package for plugin in installed.values())]
    close = registry.near(name, names)
    hint = f"did you mean {' or '.join(close)}?" if close else f"installed: {', '.join(installed)}"
    raise PluginError(f"no plugin {name!r} is installed; {hint}")
