"""Processes for tests: forked from a server that has imported torch once, each writing what it prints to a file."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CHILDREN = Path(__file__).with_name("children.py")
_context = multiprocessing.get_context("forkserver")
# What a run imports, torch._dynamo by its first optimizer included.
PRELOAD = ["__main__", "torch._dynamo", "accelerate", "coembed.train", "coembed.testing", "coembed.evaluation"]
_context.set_forkserver_preload(PRELOAD)


def start(function: str, log: Path, *, environment: dict[str, str] | None = None, **arguments: Any) -> BaseProcess:
    """A process that runs a function of children.py."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the server as it starts: no threads before a fork
    job = {"function": function, "arguments": arguments, "log": str(log), "environment": environment or {}}
    process = _context.Process(
        target=runpy.run_path, args=(str(CHILDREN),), kwargs={"init_globals": {"job": job}, "run_name": "__job__"}
    )
    process.start()
    return process


def ranks(function: str, world: int, logs: Path, *, environment: dict[str, str] | None = None, **arguments: Any):
    """`world` processes that find each other as those of torchrun do."""
    logs.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    found: list[BaseProcess] = []
    for rank in range(world):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        told = {name: str(value) for name, value in names.items()}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **(environment or {})}
        found.append(start(function, logs / f"rank-{rank}.log", environment=told, **arguments))
    return found


def finish(processes: Sequence[BaseProcess], logs: Path, timeout: float = 60) -> None:
    """Wait until all have ended well; an AssertionError shows what they printed."""
    codes = end(processes, timeout)
    text = "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(logs.glob("*.log")))
    assert codes == [0] * len(processes), f"exit codes {codes}\n{text}"


def end(processes: Sequence[BaseProcess], timeout: float = 60) -> list[int | None]:
    """The exit codes once all have ended, None for one that did not within the time, and was killed."""
    for process in processes:
        process.join(timeout)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes
