"""Store: what every database behind an index shares; a subclass adds its primitives."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index import Hit, Index, IndexFileError, Where, writing
from coembed.index.base import allowed, check_queries, check_rows
from coembed.index.folder import read_facts
from coembed.index.syntax import Node, syntax
from coembed_stores.pushdown import Cant

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    """Rows to write: ids, vectors `[T, D]` each (T = 1 but in a store of multi-vectors), payloads and their JSON."""

    ids: list[str]
    vectors: list[Vectors]
    payloads: list[Any]
    texts: list[str]


@dataclass(frozen=True)
class Found:
    """A row that a store found: score, place in the order of rows, id, and the payload's JSON."""

    score: float
    order: int
    id: str
    text: str


class Store(Index):
    """Rows in a database: what is added, deleted or updated is there at once, for everyone who reads it.

    `save` writes a small folder that says where the rows are, never a password; `load` connects again. `metric` is
    "dot" or "cosine", for which vectors are brought to unit length as they come and go. Rows are one vector each;
    queries may have several, of which MaxSim with one vector is the sum.
    """

    multivector = False

    def __init__(self, metric: str = "dot") -> None:
        super().__init__()
        if metric not in ("dot", "cosine"):
            raise ValueError(f"{self.kind}: metric {metric!r} is neither 'dot' nor 'cosine'")
        self.metric = metric

    @property
    @abstractmethod
    def dim(self) -> int | None:
        """Width of the vectors; None before the first."""

    @abstractmethod
    def _known(self, ids: Sequence[str]) -> set[str]:
        """Those ids that are there."""

    @abstractmethod
    def _write(self, rows: Rows, dim: int, replace: bool) -> None:
        """Add rows, all or none; with `replace` those of ids that are there go."""

    @abstractmethod
    def _remove(self, ids: list[str]) -> None:
        """Take out rows that are there."""

    @abstractmethod
    def _all(self) -> list[tuple[str, str]]:
        """Ids and payloads as JSON, in the order in which they were added."""

    @abstractmethod
    def _vectors(self, ids: list[str]) -> dict[str, Vectors]:
        """The vectors `[T, D]` of rows that are there."""

    @abstractmethod
    def _condition(self, node: Node) -> Any:
        """A filter in the store's own language; raises Cant."""

    @abstractmethod
    def _among(self, ids: list[str]) -> Any:
        """Rows of these ids, in the store's own language."""

    @abstractmethod
    def _nearest(self, queries: Embedding, k: int, condition: Any) -> list[list[Found]]:
        """The k best rows for queries that are all present; `condition` None is every row."""

    @abstractmethod
    def _address(self) -> dict[str, Any]:
        """Where the rows are, for `_reopen`; no secret."""

    @classmethod
    @abstractmethod
    def _reopen(cls, address: dict[str, Any], metric: str) -> Self:
        """Connect to where `_address` says; raises IndexFileError if there is nothing."""

    def add(
        self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None, *, skip_absent: bool = False
    ) -> None:
        """Add rows of one vector; see `Index.add`."""
        names, rows, given = check_rows(ids, x, payloads, dim=self.dim, taken=(), skip_absent=skip_absent)
        if taken := self._known(names):
            check_rows(ids, x, payloads, dim=self.dim, taken=taken, skip_absent=skip_absent)
        if names:
            self._write(self._rows(names, rows, given), x.dim, replace=False)

    def update(self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None) -> None:
        """Add rows, in place of those of the same ids; see `Index.update`."""
        names, rows, given = check_rows(ids, x, payloads, dim=self.dim, taken=(), skip_absent=False)
        if names:
            self._write(self._rows(names, rows, given), x.dim, replace=True)

    def delete(self, ids: Collection[str]) -> None:
        """Remove rows; see `Index.delete`."""
        names = list(dict.fromkeys(ids))
        known = self._known(names)
        for name in names:
            if name not in known:
                raise KeyError(f"index: there is no id {name!r} to delete")
        if names:
            self._remove(names)

    def search(self, q: Embedding, k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best rows for each query; see `Index.search`. Filters run in the store where its language has them."""
        check_queries(q, k, self.dim)
        condition = None if where is None else self._where(where)
        count = len(self)
        hits: list[list[Hit]] = [[] for _ in range(len(q))]
        asked = q.present.nonzero().flatten()
        if not count or not len(asked):
            return hits
        rows = self._scaled(q[asked])
        for query, found in zip(asked.tolist(), self._nearest(rows, min(k, count), condition), strict=True):
            best = sorted(found, key=lambda row: (-row.score, row.order))
            hits[query] = [Hit(row.id, row.score, json.loads(row.text)) for row in best]
        return hits

    def explain(self, where: str) -> str:
        """How a filter is done: "pushed down: …" in the store's language, or "by mask: …" and why.

        By mask means that all payloads are read, judged here, and the search goes over the ids that pass.
        """
        try:
            return f"pushed down: {self._condition(syntax(where))}"
        except Cant as reason:
            return f"by mask: {reason}"

    def select(self, where: Where) -> list[str]:
        """The ids of the rows that `where` allows, in order; `where` and errors as in `search`."""
        rows = self._all()
        mask = allowed(where, [name for name, _ in rows], [json.loads(text) for _, text in rows])
        return [name for (name, _), keep in zip(rows, [] if mask is None else mask.tolist(), strict=True) if keep]

    def vectors(self, ids: Sequence[str]) -> Embedding:
        """The vectors of some rows; see `Index.vectors`."""
        found = self._vectors(list(ids))
        for name in ids:
            if name not in found:
                raise KeyError(f"index: there is no id {name!r}")
        if not ids:
            return Embedding.from_vectors(torch.zeros(0, self.dim or 0))
        parts = [torch.from_numpy(np.array(found[name], dtype=np.float32))[None] for name in ids]
        return Embedding.cat([Embedding(part, torch.ones(part.shape[:2], dtype=torch.bool)) for part in parts])

    def save(self, folder: Path | str) -> None:
        """Write index.json, which says where the rows are; see `Index.save`. The rows are in the store already."""
        with writing(folder) as writer:
            facts = {"kind": self.kind, "dim": self.dim, "count": len(self), "meta": self.meta}
            writer.commit(facts | {"metric": self.metric, "store": self._address()}, [])

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Connect to where `save` said that the rows are; see `Index.load`."""
        folder = Path(folder)
        facts = read_facts(folder, "store", "metric", "meta", "dim")
        if facts["kind"] != cls.kind:
            raise IndexFileError(f"{folder}: its kind is {facts['kind']}, not {cls.kind}; open_index reads any kind")
        try:
            index = cls._reopen(facts["store"], facts["metric"])
        except (KeyError, TypeError, IndexFileError) as error:
            raise IndexFileError(f"{folder}: {error if isinstance(error, IndexFileError) else 'damaged'}") from error
        if index.dim not in (None, facts["dim"]):
            raise IndexFileError(f"{folder}: the store has width {index.dim}, index.json says {facts['dim']}")
        index.meta = facts["meta"]
        return index

    @property
    def ids(self) -> list[str]:
        """The ids in the order they were added; read from the store each time."""
        return [name for name, _ in self._all()]

    def _where(self, where: Where) -> Any:
        """A condition of the store: filters pushed down where its language has them, all else by ids."""
        if isinstance(where, str):
            node = syntax(where)
            try:
                return self._condition(node)
            except Cant:
                return self._among(self.select(where))
        if isinstance(where, (Tensor, np.ndarray)) or callable(where):
            return self._among(self.select(where))
        allowed(where, (), ())  # refuses what is no list of ids
        return self._among(list(dict.fromkeys(where)))

    def _rows(self, names: list[str], x: Embedding, payloads: list[Any]) -> Rows:
        if not self.multivector and not bool((x.mask.sum(1) == 1).all()):
            raise ValueError(f"{self.kind} keeps one vector a row: add x.pool(), or use an index of multi-vectors")
        x = self._scaled(x)
        vectors = [values[mask].numpy() for values, mask in zip(x.values, x.mask, strict=True)]
        return Rows(names, vectors, payloads, [json.dumps(payload) for payload in payloads])

    def _scaled(self, x: Embedding) -> Embedding:
        values = x.values.detach().cpu().float().masked_fill(~x.mask.cpu().unsqueeze(-1), 0)
        made = Embedding(values, x.mask.cpu())
        return made.normalize() if self.metric == "cosine" else made


def summed(q: Embedding) -> Vectors:
    """Queries as one vector each `[Q, D]`: MaxSim of several vectors with a single one is that of their sum."""
    return np.ascontiguousarray(q.values.masked_fill(~q.mask.unsqueeze(-1), 0).sum(1).numpy(), dtype=np.float32)
