"""Structure: an index whose rows are searched through one structure of a library, a graph or inverted lists."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coembed.index import Size, Writer
from coembed_index.base import Approximate
from coembed_index.scan import Best

__all__ = ["Structure"]

Serials = NDArray[np.int64]
_SLACK = 1.3  # of the results that a filter would leave, so many are asked for
_VISITS = 32  # vectors that a structure looks at for each result it gives, roughly
_ROWS = 1 << 14  # rows compared at once where the structure is left aside


class Structure(Approximate):
    """Rows go into one structure under serial numbers, which stay theirs while segments are joined and rows deleted.

    A structure can't tell which rows a filter allows, so more results are asked for, in proportion; where that would be
    more work than comparing every allowed row, or leaves a query without enough, all allowed rows are compared: a
    filter loses no recall. An index of this kind writes

    - `insert(serials, vectors)`: put rows in;
    - `probe(queries, n)`: about the n best serials `[B, n]` (-1: none) and their scores;
    - `kept(serials)`: the vectors as the structure keeps them, where `keep` is "none";
    - `dump(path)` and `undump(path)`: write it to a file, and read it;
    - `clear()`: start anew; `weight()`: its bytes in memory.
    """

    def __init__(self, *, keep: str = "float32", rescore: int = 1) -> None:
        super().__init__(keep=keep, rescore=rescore)
        self._next = 0  # the serial of the next row
        self._dumped: Path | None = None  # its file
        self._then = (0, 0)  # the next serial and its rows when that was written
        self._digest = b"\0"
        self._serials: tuple[list[tuple[int, int]], list[Tensor], Tensor] | None = None  # of all segments, joined once

    @abstractmethod
    def insert(self, serials: Serials, vectors: Tensor) -> None:
        """Put rows `[N, D]` in, under their serials."""

    @abstractmethod
    def probe(self, queries: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """For queries `[B, D]` about the n best serials `[B, n]`, -1 where there are fewer, and their scores."""

    @abstractmethod
    def kept(self, serials: Serials) -> Tensor:
        """The vectors `[N, D]` as the structure keeps them."""

    @abstractmethod
    def clear(self) -> None:
        """Let go of all rows, before they are put in anew."""

    @abstractmethod
    def dump(self, path: Path) -> None:
        """Write the structure to a file."""

    @abstractmethod
    def undump(self, path: Path) -> None:
        """Read what `dump` wrote; raises ValueError if it does not fit."""

    @abstractmethod
    def weight(self) -> int:
        """The structure's bytes in memory."""

    @abstractmethod
    def held(self) -> int:
        """How many rows the structure holds, deleted ones among them."""

    def encode(self, vectors: Tensor) -> dict[str, Tensor]:
        """Put rows into the structure; their code is their serial."""
        serials = np.arange(self._next, self._next + len(vectors), dtype=np.int64)
        self.insert(serials, vectors)
        self._next += len(vectors)
        return {"serial": torch.from_numpy(serials)}

    def candidates(self, queries: Tensor, n: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The rows that the structure finds, or the best of all that are allowed; see `Structure`."""
        allowed = len(self) if mask is None else int(mask.sum())
        wanted = n if mask is None else int(n * _SLACK * self.held() / max(1, allowed)) + 1
        if wanted * _VISITS >= allowed and mask is not None:
            return self.compared(queries, n, mask)
        serials, scores = self.probe(queries, min(wanted, self.held()))
        rows = self._rows(serials)
        if mask is not None:
            rows = rows.masked_fill((rows < 0) | ~mask[rows.clamp_min(0)], -1)
        scores = scores.masked_fill(rows < 0, -torch.inf)
        if rows.shape[1] > n:
            scores, at = scores.topk(n, dim=1)
            rows = rows.gather(1, at)
        few = (rows >= 0).sum(1) < min(n, allowed)
        if rows.shape[1] < n:
            pad = (0, n - rows.shape[1])
            rows = torch.nn.functional.pad(rows, pad, value=-1)
            scores = torch.nn.functional.pad(scores, pad, value=-torch.inf)
        if bool(few.any()):
            rows[few], scores[few] = self.compared(queries[few], n, mask)
        return rows, scores

    def compared(self, queries: Tensor, n: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The n best of all rows that `mask` allows, the structure left aside."""
        best, start = Best(len(queries), n), 0
        for part in self.segments():
            inside = torch.arange(len(part)) if mask is None else mask[start : start + len(part)].nonzero().flatten()
            for rows in inside.split(_ROWS):
                if self.keep == "none":
                    vectors = self.kept(part.codes["serial"][rows].numpy())
                else:
                    vectors = part.floats(part.at(rows))
                best.take(queries @ vectors.T, rows + start)
            start += len(part)
        return best.table()

    def _rows(self, serials: Tensor) -> Tensor:
        """The row of each serial over all segments, -1 for one that is not there any more; serials rise with rows."""
        parts = [part.codes["serial"] for part in self.segments()]
        known = [(id(part), len(part)) for part in parts]
        if self._serials is None or self._serials[0] != known:  # parts are held on to, so that no id comes twice
            self._serials = known, parts, torch.cat(parts)
        every = self._serials[2]
        at = torch.searchsorted(every, serials.contiguous()).clamp_max(len(every) - 1)
        return torch.where((every[at] == serials) & (serials >= 0), at, -1)

    def compact(self) -> None:
        """Let go of what is deleted, in the structure as well where that is much of it."""
        super().compact()
        if self.keep != "none" and self.held() > 2 * len(self):
            self.rebuild()

    def rebuild(self) -> None:
        """Put all rows that are there now into a new structure; see `Approximate.rebuild`."""
        self._next, self._dumped = 0, None
        self.clear()
        super().rebuild()

    def nbytes(self) -> Size:
        """Bytes in memory and on disk, the structure among them."""
        rows, weight = super().nbytes(), self.weight()
        saved = self._dumped is not None and self._dumped.exists() and self._then == (self._next, self.held())
        return Size(
            rows.memory + weight, rows.disk + (self._dumped.stat().st_size if self._dumped and saved else weight)
        )

    def state(self) -> dict[str, Tensor]:
        """The next serial, and a digest of the structure's file: a damaged one must not reach the library."""
        return {
            "next": torch.tensor([self._next]),
            "digest": torch.frombuffer(bytearray(self._digest), dtype=torch.uint8),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take in the next serial and the digest."""
        self._next, self._digest = int(state["next"]), state["digest"].numpy().tobytes()

    def write(self, writer: Writer) -> dict[str, str]:
        """Write the structure if it has changed, and what was learned."""
        if not self.trained_on:
            return super().write(writer)
        if self._dumped is None or not self._saved(writer.folder):
            self._dumped, self._state_path = writer.fresh("structure"), None
            self.dump(self._dumped)
            self._then, self._digest = (self._next, self.held()), _digest(self._dumped)
        return super().write(writer) | {"structure": self._dumped.name}

    def open(self, folder: Path, files: Mapping[str, str]) -> None:
        """Take in what was learned, and the structure; raises ValueError naming a file that is damaged."""
        super().open(folder, files)
        if "structure" in files:
            path = folder.resolve() / files["structure"]
            if _digest(path) != self._digest:
                raise ValueError(f"{path}: damaged or cut off; build the index again")
            self.undump(path)
            self._dumped, self._then = path, (self._next, self.held())

    def _saved(self, folder: Path) -> bool:
        """Whether the structure as it is now is a file of a folder."""
        path = self._dumped
        return path is not None and path.parent == folder and path.exists() and self._then == (self._next, self.held())


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()[:16]
