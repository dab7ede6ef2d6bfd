"""Hnsw: a graph of near neighbours, walked from coarse to fine (usearch)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from usearch.index import Index as Graph

from coembed_index.structure import Serials, Structure

__all__ = ["Hnsw"]

DTYPES = ("f32", "f16", "bf16", "i8")


class Hnsw(Structure):
    """A graph walked towards the query, so that few rows are looked at, whatever their number.

    Rows should be of unit length: the graph's edges follow dot products. `dtype` is what the graph keeps of them
    ("f32", "f16", "bf16", "i8"); `connectivity` its edges a row, `build` and `search_width` how many rows it looks at
    to place a row and to answer a query: more find more and take longer. It is built by as many threads as torch has,
    and several place rows in an order of their own: then two builds may differ. Filters lose no recall.
    Source: Malkov and Yashunin 2018, Efficient and robust approximate nearest neighbor search using HNSW graphs.

    >>> from coembed import Embedding
    >>> index = Hnsw()
    >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)))
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.1, 1.0]])), k=1)[0][0].id
    'y'
    """

    kind = "index/hnsw"
    recall = 0.9
    refit = 0  # a graph learns nothing from its first rows

    def __init__(
        self,
        *,
        dtype: str = "f16",
        connectivity: int = 16,
        build: int = 128,
        search_width: int = 64,
        keep: str = "float32",
        rescore: int = 2,
    ) -> None:
        super().__init__(keep=keep, rescore=rescore)
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
        for name, value in (("connectivity", connectivity), ("build", build), ("search_width", search_width)):
            if value < 2:
                raise ValueError(f"{name} {value} must be at least 2")
        self.dtype, self.connectivity, self.build, self.search_width = dtype, connectivity, build, search_width
        self._graph: Graph | None = None

    def settings(self) -> dict[str, Any]:
        """The arguments that the index was built with."""
        return super().settings() | {
            "dtype": self.dtype,
            "connectivity": self.connectivity,
            "build": self.build,
            "search_width": self.search_width,
        }

    def insert(self, serials: Serials, vectors: Tensor) -> None:
        """Place rows in the graph, by as many threads as torch has."""
        if self._graph is None:
            self._graph = self._empty(vectors.shape[1])
        rows = np.ascontiguousarray(vectors.numpy(), dtype=np.float32)
        self._graph.add(serials.astype(np.uint64), rows, threads=torch.get_num_threads())

    def probe(self, queries: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Walk the graph; see `Structure.probe`."""
        assert self._graph is not None, "a structure is probed once rows are in it"
        rows = np.ascontiguousarray(queries.numpy(), dtype=np.float32)
        found = self._graph.search(rows[0] if len(rows) == 1 else rows, n, threads=torch.get_num_threads())
        keys = np.atleast_2d(found.keys).astype(np.int64)
        distances = np.atleast_2d(found.distances)
        if len(rows) > 1:  # fewer than n: what stands after them means nothing
            keys = np.where(np.arange(keys.shape[1]) < np.asarray(found.counts)[:, None], keys, -1)
        return torch.from_numpy(keys), torch.from_numpy(1 - distances.astype(np.float32))

    def kept(self, serials: Serials) -> Tensor:
        """The vectors as the graph keeps them."""
        assert self._graph is not None, "a structure is asked once rows are in it"
        if not len(serials):
            return torch.zeros(0, self.dim or 0)
        return torch.from_numpy(np.asarray(self._graph.get(serials.astype(np.uint64), dtype=np.float32)))

    def clear(self) -> None:
        """Let go of the graph."""
        self._graph = None

    def held(self) -> int:
        """How many rows the graph holds."""
        return 0 if self._graph is None else len(self._graph)

    def weight(self) -> int:
        """Bytes of the graph: its vectors and edges."""
        return 0 if self._graph is None else int(self._graph.serialized_length)

    def dump(self, path: Path) -> None:
        """Write the graph."""
        assert self._graph is not None, "a structure is written once rows are in it"
        self._graph.save(str(path))

    def undump(self, path: Path) -> None:
        """Read the graph."""
        graph = self._empty(int(self.dim or 0))
        graph.load(str(path))
        if graph.ndim != self.dim:
            raise ValueError(f"{path}: a graph of width {graph.ndim} does not fit what index.json says ({self.dim})")
        graph.expansion_search = self.search_width
        self._graph = graph

    def _empty(self, dim: int) -> Graph:
        return Graph(
            ndim=dim,
            metric="ip",
            dtype=self.dtype,
            connectivity=self.connectivity,
            expansion_add=self.build,
            expansion_search=self.search_width,
        )
