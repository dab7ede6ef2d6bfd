"""IvfPq: inverted lists of product codes (faiss)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coembed_index.structure import Serials, Structure

__all__ = ["POINTS", "IvfPq"]

POINTS = 64  # rows a centroid of product codes is fitted on: faiss takes 256, for four times as long
_PER_LIST = 39  # rows a list needs to be placed well, as faiss asks
_PER_CENTROID = 4  # rows a centroid of product codes needs at least


class IvfPq(Structure):
    """Rows in lists around centroids, each as `parts` bytes; a query looks at the `probes` lists nearest to it.

    `lists` is the number of lists (None: 4 times the root of the rows it is trained on), `parts` the bytes of a code
    (None: one for every 8 dimensions); the width must be a multiple of it. Codes are coarse, so `rescore` times k
    candidates are scored from `keep`. Needs faiss: `pip install 'coembed-index[faiss]'`.
    Source: Jegou, Douze and Schmid 2011, Product quantization for nearest neighbor search, section IV.

    >>> from coembed import Embedding
    >>> index = IvfPq(lists=1, parts=2)
    >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)))
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.1, 1.0]])), k=1)[0][0].id
    'y'
    """

    kind = "index/ivfpq"
    recall = 0.8
    rough = 0.3

    def __init__(
        self,
        *,
        lists: int | None = None,
        parts: int | None = None,
        probes: int = 16,
        keep: str = "float32",
        rescore: int = 16,
    ) -> None:
        super().__init__(keep=keep, rescore=rescore)
        for name, value in (("lists", lists), ("parts", parts), ("probes", probes)):
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} must be at least 1")
        self.lists, self.parts, self.probes = lists, parts, probes
        self._faiss = _faiss()
        self._made: Any = None

    def settings(self) -> dict[str, Any]:
        """The arguments that the index was built with."""
        return super().settings() | {"lists": self.lists, "parts": self.parts, "probes": self.probes}

    def train(self, vectors: Tensor) -> None:
        """Fit centroids and product codes; of few rows fewer, so that none is left without any."""
        count, dim = vectors.shape
        parts = self.parts or next(p for p in range(max(1, dim // 8), 0, -1) if dim % p == 0)
        if dim % parts:
            raise ValueError(f"parts {parts}: the width {dim} is no multiple of it")
        wanted = self.lists or max(1, round(4 * count**0.5))
        lists = max(1, min(wanted, count // _PER_LIST))
        bits = max(1, min(8, int(np.log2(max(2, count // _PER_CENTROID)))))
        rows = vectors.repeat(-(-(2**bits) // count), 1) if count < 2**bits else vectors
        with self._threads():
            coarse = self._faiss.IndexFlatIP(dim)
            made = self._faiss.IndexIVFPQ(coarse, dim, lists, parts, bits, self._faiss.METRIC_INNER_PRODUCT)
            made.own_fields = True
            coarse.this.disown()
            made.pq.cp.max_points_per_centroid = POINTS
            made.cp.min_points_per_centroid = made.pq.cp.min_points_per_centroid = 1  # few rows are no fault
            made.train(np.ascontiguousarray(rows.numpy(), dtype=np.float32))
        made.nprobe = min(self.probes, lists)
        self._made = made

    def insert(self, serials: Serials, vectors: Tensor) -> None:
        """Put rows into their lists."""
        with self._threads():
            self._made.add_with_ids(np.ascontiguousarray(vectors.numpy(), dtype=np.float32), serials)

    def probe(self, queries: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Look through the nearest lists."""
        with self._threads():
            scores, serials = self._made.search(np.ascontiguousarray(queries.numpy(), dtype=np.float32), n)
        return torch.from_numpy(serials), torch.from_numpy(scores)

    def kept(self, serials: Serials) -> Tensor:
        """The vectors that product codes stand for."""
        if not len(serials):
            return torch.zeros(0, self.dim or 0)
        self._made.make_direct_map(True)
        rows = np.stack([self._made.reconstruct(int(serial)) for serial in serials])
        return torch.from_numpy(rows)

    def clear(self) -> None:
        """Let go of lists and centroids."""
        self._made = None

    def held(self) -> int:
        """How many rows are in the lists."""
        return 0 if self._made is None else int(self._made.ntotal)

    def weight(self) -> int:
        """Bytes of lists, serials, centroids and codebooks."""
        if self._made is None:
            return 0
        made = self._made
        tables = 4 * made.nlist * made.d + 4 * made.pq.centroids.size()
        return int(made.ntotal * (made.code_size + 8) + tables)

    def dump(self, path: Path) -> None:
        """Write lists and codebooks."""
        self._faiss.write_index(self._made, str(path))

    def undump(self, path: Path) -> None:
        """Read lists and codebooks."""
        try:
            made = self._faiss.read_index(str(path))
        except RuntimeError as error:
            raise ValueError(f"{path}: {error}") from error
        if made.d != self.dim or not hasattr(made, "nprobe"):
            raise ValueError(f"{path}: lists of width {made.d} do not fit what index.json says ({self.dim})")
        made.nprobe = min(self.probes, made.nlist)
        self._made = made

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """As many threads as torch has: faiss counts its own, and two libraries at full width slow each other down."""
        before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(torch.get_num_threads())
        try:
            yield
        finally:
            self._faiss.omp_set_num_threads(before)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(f"index/ivfpq needs faiss: pip install 'coembed-index[faiss]' ({error})") from error
    return faiss
