"""Vectors to places in the plane: PCA at once, PaCMAP in a process of its own.

`python -m coembed_serve.layout OUT POINTS VERSION=FOLDER…` writes what `read` reads; the server starts it, so that
neither its minutes of work nor its memory are the server's.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coembed import weights
from coembed_serve.shelves import Shelf

Plane = NDArray[np.float32]


def available() -> bool:
    """Whether PaCMAP is installed."""
    return importlib.util.find_spec("pacmap") is not None


def chosen(counts: Sequence[int], points: int) -> list[torch.Tensor]:
    """Which rows of each index are drawn: all, or an even spread of them, each index its share.

    >>> [len(rows) for rows in chosen([30, 10], 20)]
    [15, 5]
    """
    total = sum(counts)
    shares = [n if total <= points else max(min(n, 1), n * points // total) for n in counts]
    return [torch.linspace(0, max(0, n - 1), share).round().long() for n, share in zip(counts, shares, strict=True)]


def gather(shelves: Sequence[Shelf], points: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The rows of each index that are drawn, and their vectors `[N, D]`, each index around its own mean.

    Around their means, since towers that were trained to meet still keep to cones of their own (Liang et al. 2022, Mind
    the Gap): a map of the raw vectors would show which tower a vector is of, and little else.
    """
    rows = chosen([len(shelf) for shelf in shelves], points)
    parts = [shelf.pooled(each) for shelf, each in zip(shelves, rows, strict=True)]
    return rows, torch.cat([part - part.mean(0) for part in parts if len(part)])


def pca(x: torch.Tensor) -> Plane:
    """The two directions of most variance; signs are settled, so that a map does not flip from run to run.

    >>> pca(torch.tensor([[0.0, 0.0, 2.0], [0.0, 1.0, 0.0], [0.0, -1.0, -2.0]])).shape
    (3, 2)
    """
    centred = (x - x.mean(0)).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # rising
    axes = vectors[:, -2:].flip(1)
    if axes.shape[1] < 2:
        axes = torch.cat([axes, torch.zeros_like(axes)], 1)
    axes = axes * axes[axes.abs().argmax(0), torch.arange(2)].sign()
    return np.asarray((centred @ axes).float())


def pacmap(x: torch.Tensor) -> Plane:
    """PaCMAP (Wang et al. 2021, Understanding How Dimension Reduction Tools Work), with a fixed seed."""
    import pacmap as package

    fitted: Any = package.PaCMAP(n_components=2, n_neighbors=None if len(x) > 60 else 5, random_state=0)
    return np.asarray(fitted.fit_transform(x.numpy(), init="pca"), dtype=np.float32)


def write(path: Path, plane: Plane) -> None:
    """Keep a layout, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights.write(path, {"plane": torch.from_numpy(plane)})


def read(path: Path, count: int) -> Plane | None:
    """A layout that was kept, None if it is missing, damaged or of another count."""
    try:
        plane = weights.read(path)["plane"]
    except (ValueError, OSError, KeyError):
        return None
    if tuple(plane.shape) != (count, 2) or not bool(plane.isfinite().all()):
        return None
    return np.asarray(plane.float()).copy()


def main(argv: Sequence[str]) -> int:
    """Lay out the given indexes by PaCMAP, and keep the result."""
    from coembed.index import open_index
    from coembed.index.folder import read_facts

    out, points, *folders = argv
    shelves = []
    for version, _, folder in (given.partition("=") for given in folders):
        shelves.append(Shelf(folder, "", "", Path(folder), open_index(folder), version))
        if read_facts(Path(folder))["version"] != version:
            raise SystemExit(f"{folder} has changed since it was opened")
    _, x = gather(shelves, int(points))
    write(Path(out), pacmap(x))
    return 0


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(10)  # searches go first
    sys.exit(main(sys.argv[1:]))
