"""What `coembed plugins --check` runs in a process of its own: load one plugin, write down what happened.

A plugin may crash the interpreter, exit, or never come back: only this process is lost. The result goes to a file, so
that whatever the plugin prints is no part of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def probe(name: str) -> dict[str, Any]:
    """Load one plugin and import what its specs name; `targets` says which components can't be had and why."""
    from coembed import registry
    from coembed.hookspecs import HEAVY
    from coembed.plugins import PluginError, Plugins, diagnose

    os.environ.pop("COEMBED_STRICT", None)
    view = Plugins()
    view.installed()
    before, began = set(sys.modules), time.perf_counter()
    plugin = view.plugin(name)
    spent = (time.perf_counter() - began) * 1000
    heavy = sorted(set(HEAVY) & (set(sys.modules) - before))
    error: BaseException | None = plugin.error
    if error is None:
        try:
            registry.check_owner(plugin)
        except PluginError as claim:
            error = claim
    return {
        "status": plugin.status if error is plugin.error else "failed",
        "error": None if error is None else str(error) if isinstance(error, PluginError) else diagnose(error),
        "load_ms": round(spent, 1),
        "heavy": heavy,
        "components": {kind: [spec.to_json() for spec in specs] for kind, specs in plugin.specs.items()},
        "described": registry.describe(view, [name])["plugins"][name]["components"],
        "targets": {} if error is not None else targets(plugin),
    }


def targets(plugin: Any) -> dict[str, str]:
    """The components whose class can't be imported, with the cause and the extra to install, if the spec names one."""
    from coembed.plugins import diagnose
    from coembed.spec import resolve

    causes: dict[str, str] = {}
    known: dict[str, str] = {}  # a target imports once, and fails alike for all that share it
    for _, spec in plugin:
        if spec.target not in known:
            try:
                resolve(spec.target)
                known[spec.target] = ""
            except (Exception, SystemExit) as error:
                known[spec.target] = diagnose(error)
        if known[spec.target]:
            extra = f"; it needs pip install '{plugin.package}[{spec.extra}]'" if spec.extra else ""
            causes[spec.name] = known[spec.target] + extra
    return causes


if __name__ == "__main__":
    result = json.dumps(probe(sys.argv[1]), default=str)
    Path(sys.argv[2]).write_text(result, encoding="utf-8")
    os._exit(0)  # a thread that the plugin left behind must not keep us
