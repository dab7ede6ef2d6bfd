"""The CPU time that a user waits for before anything happens: imports and commands, each in a fresh process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coembed_bench.machine import highest, load_average, versions
from coembed_bench.report import Aim, Failed, Report

__all__ = ["cpu_ms", "run"]

IMPORT_AIM = 80.0
HELP_AIM = 100.0
PEER = "sentence-transformers"


def cpu_ms(command: Sequence[str]) -> float:
    """The CPU time of a command in milliseconds, user and system, its children included; raises Failed if it fails.

    CPU time and not the clock, since the clock also counts what the neighbours do.

    >>> cpu_ms([sys.executable, "-c", "pass"]) > 0
    True
    """
    if not hasattr(os, "wait4"):
        raise Failed(f"the CPU time of a child process can't be asked for on {sys.platform}")
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        assert child.stderr is not None
        errors = child.stderr.read()  # to the end: a full pipe would stop the child
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)  # reaped here, so Popen must not wait again
    if child.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines() or [f"exit status {child.returncode}"]
        raise Failed(f"{' '.join(command)}: {lines[-1]}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def coembed(*arguments: str) -> list[str]:
    """The command line of `coembed` as its users run it: the installed script, or what that script does.

    >>> coembed("--help")[-1]
    '--help'
    """
    script = Path(sys.executable).with_name("coembed")
    if script.exists():
        return [str(script), *arguments]
    start = f"import sys; sys.argv = {['coembed', *arguments]!r}; from coembed.cli import main; sys.exit(main())"
    return [sys.executable, "-c", start]


def run(quick: bool = False) -> Report:
    """Measure everything, `quick` with fewer runs; raises Failed if a command of ours fails, a peer's is a row."""
    before = load_average()
    runs = 5 if quick else 15
    python = [sys.executable, "-c"]
    rows = [
        _row("python", "-c pass", [*python, "pass"], runs),
        _row("coembed", "import coembed", [*python, "import coembed"], runs),
        _row("coembed", "coembed --help", coembed("--help"), runs),
        _row("coembed", "coembed plugins", coembed("plugins"), runs),
    ]
    if versions([PEER])[PEER] is None:
        rows.append(_empty(PEER, "import sentence_transformers", "not installed: pip install 'coembed-bench[peers]'"))
    else:
        case = "import sentence_transformers"
        try:
            rows.append(_row(PEER, case, [*python, case], 1 if quick else 3))
        except Failed as error:
            rows.append(_empty(PEER, case, f"failed: {error}"))
    medians = {row["case"]: row["cpu_median"] for row in rows}
    aims = [
        Aim("import coembed, CPU ms", medians["import coembed"], IMPORT_AIM),
        Aim("coembed --help, CPU ms", medians["coembed --help"], HELP_AIM),
    ]
    units = {"cpu_min": "ms", "cpu_median": "ms"}
    return Report("startup", rows, aims, highest(before, load_average()), ("coembed", "pluggy", PEER), units)


def _row(system: str, case: str, command: Sequence[str], runs: int) -> dict[str, Any]:
    """The figures of one command; the first run is thrown away, since it pays for cold files and bytecode."""
    cpu_ms(command)
    times = [cpu_ms(command) for _ in range(runs)]
    return {
        "system": system,
        "case": case,
        "cpu_min": round(min(times), 1),
        "cpu_median": round(statistics.median(times), 1),
        "runs": runs,
        "note": "",
    }


def _empty(system: str, case: str, note: str) -> dict[str, Any]:
    return {"system": system, "case": case, "cpu_min": None, "cpu_median": None, "runs": 0, "note": note}
