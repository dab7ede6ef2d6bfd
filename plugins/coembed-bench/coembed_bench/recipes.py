"""coembed-bench recipes: every recipe of a published method, run one after the other, and the table of verdicts.

The recipes are scripts of a checkout (examples/recipes/), no part of the package: run it there.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from coembed_bench.report import Failed, Report

__all__ = ["FOLDER", "rows_of", "run"]

FOLDER = Path("examples/recipes")


def run(quick: bool) -> Report:
    """Run all recipes of the working directory's checkout; raises Failed if there are none or an invariant breaks."""
    scripts = sorted(FOLDER.glob("*.py"))
    if not scripts:
        raise Failed(f"{FOLDER} is not in {Path.cwd()}: run this in a checkout of coembed")
    rows: list[dict[str, Any]] = []
    broken = []
    for script in scripts:
        print(f"{script.stem} …", file=sys.stderr, flush=True)
        found = _outcome(script, quick)
        rows += rows_of(found)
        broken += [f"{script.stem}: {name}: {said}" for name, said in found["invariants"].items() if said != "holds"]
    if broken:
        raise Failed("; ".join(broken))
    return Report("recipes", rows, [], load=None, packages=("torch", "coembed"))


def rows_of(outcome: dict[str, Any]) -> list[dict[str, Any]]:
    """The table's rows of one recipe: a row a claim, with both arms' means and the verdict."""
    runs, rows = list(outcome["runs"].values()), []
    for claim in outcome["claims"]:
        means = {}
        for side in ("than", "better"):
            values = [run[claim[side]][claim["metric"]] for run in runs]
            means[side] = None if None in values else statistics.mean(values)
        rows.append(
            {
                "system": outcome["recipe"],
                "case": claim["says"],
                "metric": claim["metric"],
                "without": means["than"],
                "with": means["better"],
                "seeds": len(runs),
                "verdict": {True: "shows", False: "does NOT show", None: "no verdict"}[claim["shows"]],
                "seconds": outcome["seconds"],
            }
        )
    return rows


def _outcome(script: Path, quick: bool) -> dict[str, Any]:
    command = [sys.executable, str(script), "--json", *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TQDM_DISABLE": "1"}, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise Failed(f"{script}: exit code {done.returncode}: {last}") from error
    return found
