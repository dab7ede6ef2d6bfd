"""The map of the space: one layout for each version of its indexes, kept beside them, in an order that can be cut."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coembed_serve import layout
from coembed_serve.library import Library
from coembed_serve.settings import Settings
from coembed_serve.shelves import Shelf

GRID = 65535  # places are whole numbers up to this: two bytes
NAMES = {"pacmap": "PaCMAP", "pca": "PCA"}


class Map:
    """Where every item lies. PCA is there at once; PaCMAP, where it is installed, as soon as it is done.

    Points come in a shuffled order: whoever draws only the first so many draws an even sample. It is of the indexes as
    they are now: once these change, a map `after` this one is to be made, whose points have other numbers (another
    `edition`). `on_use` is called when there is something new to show.
    """

    def __init__(self, library: Library, settings: Settings, after: Map | None = None) -> None:
        self.library, self.settings = library, settings
        self.edition: int = 1 if after is None else after.edition + 1
        self.on_use: Callable[[Map], None] = lambda drawn: None
        self.shelves: list[Shelf] = [shelf for shelf in library if shelf.gives]
        self.left_out = [shelf.name for shelf in library if not shelf.gives]
        self.state, self.method, self.note = "waiting", "", ""
        self.revision: int = 0 if after is None else after.revision
        self._rows = layout.chosen([len(shelf) for shelf in self.shelves], settings.points)
        self._ends = np.cumsum([0, *(len(rows) for rows in self._rows)])
        self.count = int(self._ends[-1])
        self._order = np.random.default_rng(0).permutation(self.count)
        self._rank = np.argsort(self._order)
        self._bytes = b""

    async def make(self) -> None:
        """Lay out: from the cache, else PCA, then PaCMAP in another process."""
        if self.count < 3:
            self.state, self.note = "none", "there are too few items for a map"
            self._rows, self.count = [rows[:0] for rows in self._rows], 0
            self.revision += int(self.edition > 1)  # what was drawn before is gone
            self.on_use(self)
            return
        self.state, path = "working", self._path()
        wanted = self.settings.layout
        try:
            kept = await asyncio.to_thread(layout.read, path, self.count) if wanted != "pca" else None
            if kept is not None:
                self._use(kept, "pacmap")
            else:
                self._use(await asyncio.to_thread(self._pca), "pca")
                if wanted != "pca":
                    await self._better(path)
            self.state = "ready"
        except Exception as error:  # a map is an extra: the search goes on without it
            self.state = "ready" if self._bytes else "failed"
            self.note = f"the layout failed: {error}"

    def _pca(self) -> layout.Plane:
        return layout.pca(layout.gather(self.shelves, self.settings.points)[1])

    async def _better(self, path: Path) -> None:
        """PaCMAP in a process that ends with ours."""
        if not layout.available():
            self.note = "PaCMAP is not installed: `pip install 'coembed-serve[map]'` gives a finer map"
            return
        self.note = "PaCMAP is at work on a finer map"
        folders = [f"{shelf.version}={shelf.folder}" for shelf in self.shelves]
        command = [sys.executable, "-m", "coembed_serve.layout", str(path), str(self.settings.points), *folders]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.note = f"PaCMAP was not run: its result can't be kept: {error}"
            return
        threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}  # the server needs a core of its own
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **threads}, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        try:
            _, said = await process.communicate()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        plane = await asyncio.to_thread(layout.read, path, self.count)
        if plane is None:
            last = said.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            self.note = f"PaCMAP failed: {last[0]}"
            return
        self._use(plane, "pacmap")
        self.note = ""
        for other in path.parent.glob("pacmap-*.safetensors"):  # of versions that are gone
            if other != path:
                other.unlink(missing_ok=True)

    def _path(self) -> Path:
        """Beside the indexes, which must hold nothing but their own files; named after their versions."""
        digest = hashlib.blake2b(digest_size=10)
        for shelf in self.shelves:
            digest.update(f"{shelf.name} {shelf.version} {self.settings.points}\n".encode())
        return self.library.folder / "map" / f"pacmap-{digest.hexdigest()}.safetensors"

    def _use(self, plane: layout.Plane, method: str) -> None:
        kinds = np.repeat(np.arange(len(self.shelves), dtype=np.uint8), np.diff(self._ends))
        self._bytes = on_grid(plane)[self._order].tobytes() + kinds[self._order].tobytes()
        self.method = method
        self.revision += 1
        self.on_use(self)

    def facts(self) -> dict[str, Any]:
        """What the page needs to know before it fetches the points."""
        return {
            "state": self.state,
            "method": NAMES.get(self.method),
            "note": self.note,
            "revision": self.revision,
            "edition": self.edition,
            "count": self.count,
            "indexes": [
                {"name": shelf.name, "tower": shelf.tower, "kind": shelf.kind, "count": len(rows)}
                for shelf, rows in zip(self.shelves, self._rows, strict=True)
            ],
            "left_out": self.left_out,
        }

    def points(self) -> bytes:
        """x and y of every point as two-byte numbers, then the number of its index as a byte."""
        return self._bytes

    def item(self, number: int) -> tuple[Shelf, int]:
        """The index and the row of a point; raises IndexError for one that is not there."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        at = int(self._order[number])
        which = int(np.searchsorted(self._ends, at, side="right")) - 1
        return self.shelves[which], int(self._rows[which][at - int(self._ends[which])])

    def number(self, shelf: Shelf, row: int) -> int | None:
        """The point of a row, None if it is not drawn."""
        if shelf not in self.shelves:
            return None
        which = self.shelves.index(shelf)
        at = int(torch.searchsorted(self._rows[which], row))
        if at >= len(self._rows[which]) or int(self._rows[which][at]) != row:
            return None
        return int(self._rank[int(self._ends[which]) + at])


def on_grid(plane: layout.Plane) -> NDArray[np.uint16]:
    """Places as whole numbers, both axes in one scale; a few far outliers do not shrink all others.

    >>> on_grid(np.array([[0.0, 0.0], [1.0, 2.0]], dtype=np.float32)).tolist()
    [[16384, 0], [49151, 65535]]
    """
    low, high = plane.min(0), plane.max(0)
    if len(plane) > 1000:
        inner = np.percentile(plane, [0.1, 99.9], axis=0)
        edge = 0.1 * (inner[1] - inner[0])
        low, high = np.maximum(low, inner[0] - edge), np.minimum(high, inner[1] + edge)
    span = float(max((high - low).max(), 1e-9))
    scaled = np.clip((plane - (low + high) / 2) / span + 0.5, 0, 1)
    places: NDArray[np.uint16] = (scaled * GRID).round().astype("<u2")
    return places
