"""The memory that training towers take at growing batches: micro-batches against a graph of the whole batch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from coembed_bench.machine import highest, load_average
from coembed_bench.report import Aim, Failed, Report

__all__ = ["measure", "run"]

AIM = 64.0  # MiB that a batch of 4,096 may take beyond one of 64
ROWS = 64  # that go through a tower at a time
WORDS = 6  # of an item
CASES = ((64, ROWS), (512, ROWS), (4096, ROWS), (512, None))


def run(quick: bool = False) -> Report:
    """One process a case, so that one's peak is not another's; raises Failed with what a process said."""
    before = load_average()
    rows = []
    for batch_size, micro_batch in CASES:
        took = _child([str(batch_size), str(micro_batch or 0), str(1 if quick else 3)])
        rows.append({"system": "coembed", "batch": batch_size, "case": f"{micro_batch or 'all'} rows at a time"} | took)
    peaks = {(row["batch"], row["case"]): row["peak"] for row in rows}
    name = f"{ROWS} rows at a time"
    aims = [
        Aim("MiB that a batch of 4,096 takes beyond one of 64", peaks[4096, name] - peaks[64, name], AIM),
        Aim("times as much for 512 rows at once", peaks[512, "all rows at a time"] / peaks[512, name], 2.0, least=True),
    ]
    return Report("memory", rows, aims, highest(before, load_average()), ("coembed", "torch"), {"peak": "MiB"})


def _child(arguments: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Failed(f"{' '.join(command)}: {lines[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(batch_size: int, micro_batch: int | None, steps: int) -> dict[str, Any]:
    """Train two small transformers; the peak of the process beyond what it had before, and the seconds of a step."""
    import resource

    import coembed

    words = [" ".join(f"word{(i * 31 + j * 17) % 997}" for j in range(WORDS)) for i in range(batch_size)]
    options: dict[str, Any] = {"dim": 32, "layers": 2}
    towers = {name: coembed.load("text/transformer", "encoder", **options) for name in ("text", "other")}
    space = coembed.Space(towers, dim=32, aligner="linear", train="all")
    source = coembed.Records.pairs(text=words, other=words[::-1])
    warm = coembed.Records.pairs(text=words[:4], other=words[:4])
    coembed.fit(space, warm, steps=1, batch_size=4, cache=False)  # what the first step of a process loads
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    history = coembed.fit(space, source, steps=steps, batch_size=batch_size, micro_batch=micro_batch, cache=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    seconds = sorted(row["seconds"] for row in history.rows)
    return {"peak": peak * unit / 2**20, "seconds": seconds[len(seconds) // 2]}


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    print(json.dumps(measure(given[0], given[1] or None, given[2])))
