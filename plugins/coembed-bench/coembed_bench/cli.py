"""The command `coembed-bench`: picks a benchmark by name and prints its report."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from coembed_bench import BENCHES
from coembed_bench.report import Failed

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coembed-bench",
        description="Measure coembed beside its peers. A figure taken on a busy machine is shown, but not judged.",
    )
    parser.add_argument("bench", nargs="?", choices=[*BENCHES, "all"], metavar="BENCH", help="which one, or 'all'")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and stop")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true", help="one JSON object a benchmark, on a line of its own")
    parser.add_argument("--out", metavar="DIR", type=Path, help="write the pictures of a benchmark that has some there")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; 0 when all was measured, 1 with a message for each that could not be."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        for name, (_, summary) in BENCHES.items():
            print(f"{name:<12} {summary}")
        return 0
    if options.bench is None:
        parser.error("name a benchmark, or 'all'; --list names them")
    everything, failed = options.bench == "all", False
    for name in BENCHES if everything else [options.bench]:
        try:
            report = importlib.import_module(BENCHES[name][0]).run(quick=options.quick or everything)
        except (Failed, OSError) as error:
            print(f"coembed-bench: {name}: {error}", file=sys.stderr)
            failed = True  # what one lacks does not keep the others from being taken
            continue
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            for file, text in report.pictures.items():
                (options.out / file).write_text(text, encoding="utf-8")
        if options.json:
            print(json.dumps(report.to_json(), allow_nan=False), flush=True)
        else:
            report.show()
    return int(failed)
