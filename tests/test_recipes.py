"""Every recipe of a published method runs; what it shows is for its full run, whose figures docs/recipes.md holds."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples/recipes").glob("*.py"))
METHODS = {row["id"]: row for row in yaml.safe_load((ROOT / "docs/methods.yaml").read_text(encoding="utf-8"))}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_recipe_runs_and_its_invariants_hold(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--json", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "COEMBED_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["quick"] and found["recipe"] in METHODS, "Recipe.method is an id of docs/methods.yaml"
    assert found["invariants"] and set(found["invariants"].values()) == {"holds"}
    (run,) = found["runs"].values()
    assert found["claims"] and all(
        c["metric"] in run[c["better"]] and c["metric"] in run[c["than"]] for c in found["claims"]
    )
    figures = [value for row in run.values() for value in row.values()]
    assert all(value is None or math.isfinite(value) for value in figures)
    assert any(run[a] != run[b] for a in run for b in run), "arms that differ in nothing measure nothing"


def test_every_recipe_is_named_by_a_method():
    named: set[str] = set()
    for row in METHODS.values():
        named |= {row["recipe"]} if isinstance(row["recipe"], str) else set(row["recipe"] or ())
    assert named == {str(path.relative_to(ROOT)) for path in SCRIPTS}
