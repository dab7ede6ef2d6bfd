"""Several processes for one job of `coembed embed`: on this machine, or on a Ray cluster by Ray Data."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

from coembed.cli import bulk


def local(args: argparse.Namespace, done: Callable[[int], None]) -> tuple[int, int]:
    """The job's parts in processes of their own; the first that fails ends the others, and what it raised is raised."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // args.workers)
    told: Any = context.SimpleQueue()
    processes = [
        context.Process(target=_part, args=(args, part, args.workers, threads, told), daemon=True)
        for part in range(args.workers)
    ]
    for process in processes:
        process.start()
    found, ended = (0, 0), 0
    try:
        while ended < len(processes):
            if told.empty():
                if lost := [process.exitcode for process in processes if process.exitcode not in (None, 0)]:
                    raise ValueError(f"a worker was ended from outside (exit code {lost[0]}); the same command goes on")
                time.sleep(0.05)
                continue
            what, value = told.get()
            if what == "failed":
                raise value
            if what == "ended":
                found, ended = value, ended + 1
            else:
                done(value)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return found


def _part(args: argparse.Namespace, part: int, parts: int, threads: int, told: Any) -> None:
    import torch

    torch.set_num_threads(threads)
    try:
        told.put(("ended", bulk.work(args, part, parts, lambda items: told.put(("done", items)))))
    except Exception as error:  # whatever it is, the parent says it
        told.put(("failed", error if isinstance(error, (ValueError, OSError)) else ValueError(repr(error))))


def ray(args: argparse.Namespace) -> tuple[int, int]:
    """The job's parts as rows of a Ray dataset; the cluster is the one that RAY_ADDRESS names, or a local one.

    Inputs and --out must be paths that every node can reach. Raises ValueError if Ray is not installed.
    """
    try:
        import ray.data as data
    except ImportError as error:
        raise ValueError("--engine ray needs Ray Data: pip install 'coembed[ray]'") from error
    parts = args.workers

    def run(row: dict[str, Any]) -> dict[str, Any]:
        shards, items = bulk.work(args, int(row["id"]), parts)
        return {"shards": shards, "items": items}

    found = data.range(parts, override_num_blocks=parts).map(run).take_all()
    return int(found[0]["shards"]), int(found[0]["items"])
