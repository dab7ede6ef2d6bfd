"""Take the full figures of recipes and keep them in docs/recipes.json, from which docs/recipes.md is made.

python tools/recipes.py [NAME …]     all of examples/recipes, or those named; three seeds each
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "examples" / "recipes"
FIGURES = ROOT / "docs" / "recipes.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the recipes one after the other; exit code 1 if one fails, whose old figures stay."""
    known = sorted(path.stem for path in RECIPES.glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)} (default: all)")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(known):
        parser.error(f"unknown recipe {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    failed = 0
    for name in args.names or known:
        print(f"{name} …", flush=True)
        done = subprocess.run(
            [sys.executable, str(RECIPES / f"{name}.py"), "--json"],
            capture_output=True,
            text=True,
            check=False,
            env={"OMP_NUM_THREADS": "1", **os.environ},
        )
        if done.returncode:
            failed += 1
            print(f"{name}: exit code {done.returncode}\n{done.stderr[-1000:]}", file=sys.stderr)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        _keep(name, found)
        for claim in found["claims"]:
            print(f"  {claim['says']}: {claim['differences']}: {'shows' if claim['shows'] else 'does NOT show'}")
    return int(failed > 0)


def _keep(name: str, found: dict[str, Any]) -> None:
    """Read again before each write: another run may have kept its figures meanwhile."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    figures[name] = {key: value for key, value in found.items() if key not in ("quick", "picture")}
    lines = [f"{json.dumps(key)}: {json.dumps(figures[key])}" for key in sorted(figures)]
    FIGURES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
