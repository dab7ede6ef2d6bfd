"""coembed plugins: what is installed and, with --check, whether each plugin loads, and why one does not."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from coembed.cli import flags


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    take = parser.add_argument
    take("--check", action="store_true", help="load each in a process of its own; exit code 1 if one fails")
    take("--timeout", type=float, default=60, metavar="SECONDS", help="how long one may take to load (default: 60)")
    flags.add_json(parser, "the plugins")


def run(args: argparse.Namespace) -> int:
    """List, or check."""
    from coembed.cli import output
    from coembed.plugins import plugins
    from coembed.progress import bar

    installed = plugins().installed()
    rows: list[dict[str, Any]] = []
    with bar("check", len(installed), args.check, unit="plugins") as advance:
        for name, plugin in installed.items():
            error = str(plugin.error) if plugin.error is not None else None
            row = {"name": name, "package": plugin.package, "version": plugin.version, "status": plugin.status}
            rows.append(row | {"error": error} | (check(name, plugin.status, args.timeout) if args.check else {}))
            advance(1)
    if args.json:
        output.emit({"checked": args.check, "plugins": rows})
    else:
        shown = ["name", "package", "version", "status"]
        shown += ["components", "encoders", "load_ms"] if args.check else []
        output.table([name.replace("_", " ") for name in shown], [[row[key] for key in shown] for row in rows])
        for row in rows:
            for text in [row["error"], *row.get("warnings", [])]:
                if text:
                    output.note(f"{row['name']}: {text}")
    return int(args.check and any(row["status"] in ("failed", "clash") for row in rows))


def check(name: str, status: str, timeout: float) -> dict[str, Any]:
    """The columns that loading a plugin adds; a fault of any kind is a row's `error`, never this process's."""
    facts: dict[str, Any] = {"components": None, "encoders": None, "load_ms": None, "heavy": [], "warnings": []}
    if status != "installed":
        return facts
    result = isolated(name, timeout)
    if "died" in result:
        return facts | {"status": "failed", "error": result["died"]}
    components, causes = result["components"], result["targets"]
    warnings = []
    if result["heavy"]:
        warnings.append(f"warning: imports {', '.join(result['heavy'])} as it loads, so every listing is slow")
    extras = {spec["name"] for specs in components.values() for spec in specs if spec["extra"]}
    warnings += [
        f"warning: {component} needs an extra: {cause}" for component, cause in causes.items() if component in extras
    ]
    warnings += [f"warning: {difference}" for difference in disagreements(name, result["described"])]
    broken = {component: cause for component, cause in causes.items() if component not in extras}
    error = result["error"]
    if error is None and broken:
        same = "; ".join(dict.fromkeys(broken.values()))
        error = f"{', '.join(broken)} can't be built: {same}"
    return facts | {
        "status": "failed" if error is not None else result["status"],
        "error": error,
        "components": sum(map(len, components.values())),
        "encoders": len(components.get("encoder", [])),
        "load_ms": result["load_ms"],
        "heavy": result["heavy"],
        "warnings": warnings,
    }


def disagreements(name: str, described: dict[str, Any]) -> list[str]:
    """Where registry.yaml says otherwise of a plugin that it lists components of."""
    from coembed import registry

    listed = registry.known().get(name, {}).get("components")
    return registry.differences(name, listed, described) if listed else []


def isolated(name: str, timeout: float) -> dict[str, Any]:
    """What `coembed.cli.probe` says of a plugin, or `{"died": why}`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        # The child sees the path that this process sees; -P keeps the working folder off it.
        env = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "coembed.cli.probe", name, str(path)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            return {"died": f"did not load within {timeout:g} s: its import hangs, or raise --timeout"}
        finally:
            _end(process)
        if path.exists() and code == 0:
            result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return result
    if code < 0:
        return {"died": f"crashed as it loaded ({signal.Signals(-code).name}): reinstall it and what it depends on"}
    return {"died": f"ended the interpreter as it loaded (exit code {code})"}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
