"""`stores/qdrant`: a collection of a Qdrant server, or of Qdrant's local mode in memory."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from qdrant_client import QdrantClient, models

from coembed.arguments import number
from coembed.embedding import Embedding
from coembed.index import IndexFileError
from coembed.index.syntax import Node
from coembed_stores.base import Found, Rows, Store, Vectors, summed
from coembed_stores.facts import facts, field
from coembed_stores.pushdown import push
from coembed_stores.qdrant_filters import FACTS, Conditions

URL, KEY = "COEMBED_QDRANT_URL", "COEMBED_QDRANT_API_KEY"
MEMORY = ":memory:"
_BATCH = 256
_SPACE = uuid.UUID("6b1b7f0e-7d0c-4a7e-9a54-0d9a3a3b7c11")  # an id's point is a UUID made of it
_memories: dict[str, QdrantClient] = {}  # what this process keeps in memory, by the name that index.json has for it


class Qdrant(Store):
    """Rows in a collection of Qdrant.

    `url` is a server's address, with the key `api_key`; without one, the environment's COEMBED_QDRANT_URL and
    COEMBED_QDRANT_API_KEY. ":memory:" is Qdrant's local mode, gone with this process, for tests and for trying. (Its
    local folders keep points as pickles, which run code when they are opened: they are not offered.) The collection is
    made by the first `add`; with `multivector` it holds several vectors a row, compared by MaxSim. Search is exact
    unless `approximate`, which goes through the server's HNSW graph; `recall` is what that is said to reach. Filters
    run in Qdrant over typed fields; order of strings and parts of strings go by mask (`explain` says which).

    Qdrant has no transactions: a write that fails halfway is taken back as far as the server can be reached. `save`
    keeps address and name of the collection, never the key.
    """

    kind: ClassVar[str] = "stores/qdrant"

    def __init__(
        self,
        url: str | None = None,
        collection: str = "coembed",
        *,
        api_key: str | None = None,
        metric: str = "dot",
        multivector: bool = False,
        approximate: bool = False,
        recall: float = 0.95,
    ) -> None:
        super().__init__(metric)
        number("recall", recall, most=1)
        if url is None:
            url, api_key = os.environ.get(URL), api_key if api_key is not None else os.environ.get(KEY)
        if url is None:
            raise ValueError(f"{self.kind} needs url='http://…' (or {MEMORY!r}), or {URL} in the environment")
        self.url, self.collection, self.multivector = url, collection, multivector
        self.approximate, self.recall = approximate, recall if approximate else 1.0
        if url == MEMORY:
            self.url = f"{MEMORY}{uuid.uuid4().hex}"
            _memories[self.url] = QdrantClient(location=MEMORY)
        self._client = self._connect(api_key)
        self._dim: int | None = None  # kept once it is known

    def _connect(self, api_key: str | None) -> QdrantClient:
        if self.url.startswith(MEMORY):
            return _memories[self.url]
        return QdrantClient(url=self.url, api_key=api_key)

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """A collection in memory."""
        return cls(MEMORY)

    def drop(self) -> None:
        """Remove the collection and all that is in it, for everyone who uses the server."""
        self._client.delete_collection(self.collection)
        self._dim = None

    @property
    def dim(self) -> int | None:
        """Width of the vectors; None before the first."""
        if self._dim is None and self._client.collection_exists(self.collection):
            vectors = self._client.get_collection(self.collection).config.params.vectors
            if not isinstance(vectors, models.VectorParams) or vectors.distance != models.Distance.DOT:
                raise ValueError(f"{self.kind}: {self.collection} was not made by coembed: name another collection")
            self.multivector = vectors.multivector_config is not None
            self._dim = int(vectors.size)
        return self._dim

    def __len__(self) -> int:
        return 0 if self.dim is None else int(self._client.count(self.collection, exact=True).count)

    def _points(self, condition: models.Filter | None, **shown: Any) -> Iterator[Any]:
        """Points in no order, a page at a time."""
        offset = None
        while self.dim is not None:
            page, offset = self._client.scroll(self.collection, condition, limit=1000, offset=offset, **shown)
            yield from page
            if offset is None:
                return

    def _known(self, ids: Sequence[str]) -> set[str]:
        if self.dim is None:
            return set()
        found = set()
        for start in range(0, len(ids), _BATCH):
            asked = {_point(name): name for name in ids[start : start + _BATCH]}
            points = self._client.retrieve(self.collection, list(asked), with_payload=False)
            found |= {asked[str(point.id)] for point in points}
        return found

    def _write(self, rows: Rows, dim: int, replace: bool) -> None:
        if self.dim is None:
            several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
            params = models.VectorParams(
                size=dim, distance=models.Distance.DOT, multivector_config=several if self.multivector else None
            )
            self._client.create_collection(self.collection, vectors_config=params)
        first = time.time_ns()  # later additions, by whomever, come later in the order of rows
        points = [
            models.PointStruct(id=_point(name), vector=self._sent(vector), payload=shown)
            for name, vector, shown in zip(rows.ids, rows.vectors, _payloads(rows, first), strict=True)
        ]
        before = self._client.retrieve(self.collection, [p.id for p in points], with_vectors=True) if replace else []
        try:
            for start in range(0, len(points), _BATCH):
                self._client.upsert(self.collection, points[start : start + _BATCH], wait=True)
        except Exception:  # whatever stopped it, what was written goes, and what it replaced comes back
            self._client.delete(self.collection, models.PointIdsList(points=[p.id for p in points]))
            old = [models.PointStruct(id=p.id, vector=p.vector, payload=p.payload) for p in before]  # type: ignore[arg-type]
            if old:
                self._client.upsert(self.collection, old, wait=True)
            raise

    def _sent(self, vector: Vectors) -> Any:
        return vector.tolist() if self.multivector else vector[0].tolist()

    def _remove(self, ids: list[str]) -> None:
        for start in range(0, len(ids), _BATCH):
            points: list[Any] = [_point(name) for name in ids[start : start + _BATCH]]
            self._client.delete(self.collection, models.PointIdsList(points=points), wait=True)

    def _all(self) -> list[tuple[str, str]]:
        points = self._points(None, with_payload=["id", "n", "payload"])
        rows = sorted((point.payload["n"], point.payload["id"], point.payload["payload"]) for point in points)
        return [(_id(name), text) for _, name, text in rows]

    def _vectors(self, ids: list[str]) -> dict[str, Vectors]:
        if self.dim is None:
            return {}
        found: dict[str, Vectors] = {}
        for start in range(0, len(ids), _BATCH):
            asked = {_point(name): name for name in ids[start : start + _BATCH]}
            for point in self._client.retrieve(self.collection, list(asked), with_payload=False, with_vectors=True):
                found[asked[str(point.id)]] = np.atleast_2d(np.asarray(point.vector, dtype=np.float32))
        return found

    def _condition(self, node: Node) -> models.Filter:
        return push(node, Conditions(self._any))

    def _any(self, condition: models.Filter) -> bool:
        return self.dim is not None and bool(self._client.scroll(self.collection, condition, limit=1)[0])

    def _among(self, ids: list[str]) -> models.Filter:
        return models.Filter(must=[models.HasIdCondition(has_id=[_point(name) for name in ids])])

    def _nearest(self, queries: Embedding, k: int, condition: models.Filter | None) -> list[list[Found]]:
        if self.multivector:
            vectors = [values[mask].tolist() for values, mask in zip(queries.values, queries.mask, strict=True)]
        else:
            vectors = summed(queries).tolist()
        local = self.url.startswith(MEMORY)  # which is exact, and warns of being told so
        params = None if local else models.SearchParams(exact=not self.approximate)
        asked = [
            models.QueryRequest(query=v, limit=k, filter=condition, params=params, with_payload=["id", "n", "payload"])
            for v in vectors
        ]
        found = []
        for start in range(0, len(asked), _BATCH):
            for answer in self._client.query_batch_points(self.collection, asked[start : start + _BATCH]):
                rows = ((point.score, point.payload or {}) for point in answer.points)
                found.append([Found(score, p["n"], _id(p["id"]), p["payload"]) for score, p in rows])
        return found

    def _address(self) -> dict[str, Any]:
        settings = {"approximate": self.approximate, "recall": self.recall, "multivector": self.multivector}
        return {"url": self.url, "collection": self.collection, **settings}

    @classmethod
    def _reopen(cls, address: dict[str, Any], metric: str) -> Self:
        """By the environment's address, else by the file's without a key: no key goes to a host that a file names."""
        url, name, key = address["url"], address["collection"], None
        if url.startswith(MEMORY) and url not in _memories:
            raise IndexFileError("its rows were in the memory of a process that is gone")
        if not url.startswith(MEMORY) and os.environ.get(URL):
            url, key = os.environ[URL], os.environ.get(KEY)
        settings = {part: address[part] for part in ("approximate", "recall", "multivector")}
        index = cls(url, name, api_key=key, metric=metric, **settings)
        if index.dim is None:
            raise IndexFileError(f"there is no collection {name} at {url}")
        return index


def _payloads(rows: Rows, first: int) -> Iterator[dict[str, Any]]:
    for number_, (name, payload, text) in enumerate(zip(rows.ids, rows.payloads, rows.texts, strict=True), first):
        fields = {
            field(prefix, path): value for path, parts in facts(payload).items() for prefix, value in parts.items()
        }
        yield {"id": _kept(name), "n": number_, "payload": text, FACTS: fields}


def _point(name: str) -> str:
    """The point of an id: Qdrant's own ids are numbers or UUIDs."""
    return str(uuid.uuid5(_SPACE, _kept(name)))


def _kept(name: str) -> str:
    """An id as JSON's ASCII, which every transport holds."""
    return json.dumps(name)


def _id(kept: str) -> str:
    return str(json.loads(kept))
