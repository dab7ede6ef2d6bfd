"""What a figure was measured on, and whether the machine was quiet enough to conclude from it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["busy", "cores", "facts", "highest", "load_average", "versions"]


def facts() -> dict[str, Any]:
    """The machine in words and numbers: system, processor, cores that this process may use, memory in GiB,
    and which of coembed's kernels run here.

    >>> facts()["cores"] >= 1
    True
    """
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": _memory(),
        "kernels": _kernels(),
    }


def _kernels() -> str:
    """What coembed's compiled kernels can do here."""
    from coembed import native

    known = {native.BYTES: "bytes (AVX-512)", native.TILES: "tiles (AMX)"}
    return ", ".join(name for bit, name in known.items() if native.features() & bit) or "none"


def cores() -> int:
    """The cores that this process may use: its affinity, and in a container the quota too where that is less.

    >>> 1 <= cores() <= os.cpu_count()
    True
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or the quota is "max"
        pass
    return count


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """The version of Python and of each package, None for one that is not installed; imports none of them.

    >>> versions(["no-such-package"])["no-such-package"] is None
    True
    """
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def load_average() -> float | None:
    """How much work is running or waiting, averaged over the last minute; None where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def highest(*loads: float | None) -> float | None:
    """The highest of some load averages, such as those before and after a measurement; None if none is known.

    >>> highest(0.5, None, 1.5)
    1.5
    """
    return max((load for load in loads if load is not None), default=None)


def busy(load: float | None) -> bool:
    """Whether more work was waiting than there are cores: figures taken then are about the neighbours.

    A bench that uses every core is a load of as many itself, give or take a tenth.

    >>> busy(1e6), busy(0.0), busy(None)
    (True, False, False)
    """
    return load is not None and load > 1.1 * cores()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None
