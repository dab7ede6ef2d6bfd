"""Compiles core/coembed/native when coembed is installed or built into a wheel; without a compiler nothing is lost.

The kernels are for Linux on x86-64. Where they can't be compiled, the wheel is one for any machine, and torch's own
operations do the same work.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ["-O3", "-std=c11", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]


class NativeBuildHook(BuildHookInterface[Any]):
    """A build hook of hatchling: compiles the C files beside each other into one library."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell the wheel that it is for this kind of machine only."""
        folder = Path(self.root) / "core" / "coembed" / "native"
        made = folder / "kernels.so"
        if compiled(folder, made) and version != "editable":  # an editable install finds it where it was made
            build_data["force_include"][str(made)] = "coembed/native/kernels.so"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compiled(folder: Path, made: Path) -> bool:
    """Whether the kernels could be compiled."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    part = made.with_suffix(f".{os.getpid()}.part")
    try:
        command = [compiler, *FLAGS, "-o", str(part), *map(str, sorted(folder.glob("*.c")))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = done.stderr.strip()[:2000] if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        print(f"coembed: no kernels ({reason}); torch's own operations take their place", file=sys.stderr)
        part.unlink(missing_ok=True)
        made.unlink(missing_ok=True)  # of older sources
        return False
    part.replace(made)  # a process that runs keeps the library that it has loaded
    return True
