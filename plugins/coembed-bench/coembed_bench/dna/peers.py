"""Peers: bowtie2, bwa mem and minimap2, run as programs on the same files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coembed_bench.dna.reads import Place, places
from coembed_bench.report import Failed
from coembed_bench.startup import cpu_ms

__all__ = ["PEERS", "Peer"]


@dataclass(frozen=True)
class Peer:
    """An aligner: the programs it needs, and its two command lines with {ref}, {index}, {reads} and {out} to fill."""

    name: str
    package: str
    programs: tuple[str, ...]
    build: tuple[str, ...]
    run: tuple[str, ...]

    @property
    def missing(self) -> str | None:
        """What to install, None if it is there."""
        lacking = [program for program in self.programs if shutil.which(program) is None]
        return f"not installed: apt install {self.package}" if lacking else None

    def index(self, reference: Path, folder: Path) -> int:
        """Build its index; returns the bytes of its files."""
        index = folder / self.name.replace(" ", "-") / "index"
        index.parent.mkdir()
        command = [part.format(ref=reference, index=index) for part in self.build]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stderr.strip()[-200:]}")
        return sum(path.stat().st_size for path in index.parent.iterdir())

    def align(self, reads: Path, folder: Path) -> tuple[dict[str, Place], float]:
        """Places by read, and the CPU seconds of the command with the loading of its index."""
        home = folder / self.name.replace(" ", "-")
        out = home / f"{reads.stem}.sam"
        command = [part.format(index=home / "index", reads=reads, out=out) for part in self.run]
        seconds = cpu_ms(command) / 1000
        with out.open() as lines:
            return dict(places(lines)), seconds


def _peers() -> Sequence[Peer]:
    return (
        Peer(
            "bowtie2",
            "bowtie2",
            ("bowtie2", "bowtie2-build"),
            ("bowtie2-build", "-q", "{ref}", "{index}"),
            ("bowtie2", "-x", "{index}", "-U", "{reads}", "-S", "{out}"),
        ),
        Peer(
            "bwa mem",
            "bwa",
            ("bwa",),
            ("bwa", "index", "-p", "{index}", "{ref}"),
            ("bwa", "mem", "-o", "{out}", "{index}", "{reads}"),
        ),
        Peer(
            "minimap2",
            "minimap2",
            ("minimap2",),
            ("minimap2", "-x", "sr", "-d", "{index}", "{ref}"),
            ("minimap2", "-a", "-x", "sr", "-o", "{out}", "{index}", "{reads}"),
        ),
    )


PEERS = _peers()
