"""`stores/lancedb`: a table of LanceDB, in a folder or an object store."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import HnswSq

from coembed.arguments import number
from coembed.embedding import Embedding
from coembed.index import IndexFileError
from coembed.index.syntax import Node
from coembed_stores.base import Found, Rows, Store, Vectors, summed
from coembed_stores.facts import facts, field
from coembed_stores.lance_filters import MORE, LanceSql, quoted
from coembed_stores.pushdown import push

URI = "COEMBED_LANCEDB_URI"
_OWN = ("n", "id", "payload", "vector", MORE)
_PATHS = 256  # keys of payloads that get columns
_FEW = 1000  # ids that go into a query by name
_TYPES = {
    "k": pa.string(),
    "s": pa.string(),
    "n": pa.float64(),
    "b": pa.bool_(),
    "ls": pa.list_(pa.string()),
    "ln": pa.list_(pa.float64()),
    "lb": pa.list_(pa.bool_()),
}


class LanceDB(Store):
    """Rows in a table of LanceDB, which runs inside this process.

    `uri` is a folder, or what else LanceDB opens (`s3://…`, with credentials from the environment); without one, the
    environment's COEMBED_LANCEDB_URI. The table is made by the first `add`. Search compares with every row, exactly,
    unless `approximate` and `build_index` have made an index to go by. Filters run in LanceDB over typed columns that
    payload keys get as they first occur, up to 256 different ones; other keys, and the few tests that SQL over columns
    lacks, go by mask (`explain` says which). Payloads are kept as JSON beside them, and come back as they were.

    An addition, update or deletion is one commit. Every commit leaves a version; `compact` joins and forgets them.
    """

    kind: ClassVar[str] = "stores/lancedb"

    def __init__(
        self,
        uri: str | Path | None = None,
        table: str = "coembed",
        *,
        metric: str = "dot",
        approximate: bool = False,
        recall: float = 0.9,
    ) -> None:
        super().__init__(metric)
        uri = uri if uri is not None else os.environ.get(URI)
        if uri is None:
            raise ValueError(f"{self.kind} needs uri='FOLDER', or {URI} in the environment")
        number("recall", recall, most=1)
        remote = "://" in str(uri)
        self.uri = str(uri) if remote else str(Path(uri).expanduser().resolve())
        self.table_name, self.approximate = table, approximate
        self.recall = recall if approximate else 1.0
        # Without it a table would go on showing the version that it was opened at, whoever writes meanwhile.
        self._db = lancedb.connect(self.uri, read_consistency_interval=timedelta(0))
        self._table: Any = self._open()

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """A new table in a folder."""
        return cls(folder / "lance")

    def build_index(self, *, partitions: int | None = None, m: int = 20, ef_construction: int = 300) -> None:
        """Make an approximate index (or anew), for `approximate` searches: HNSW graphs over eight-bit vectors.

        What it finds depends on the vectors: `report()` measures it. Rows that are added later are compared one by one
        until it is made again.
        """
        if self.dim is None:
            raise ValueError(f"{self.kind}: {self.table_name} is empty: add rows before build_index")
        graph = HnswSq(distance_type="dot", num_partitions=partitions, m=m, ef_construction=ef_construction)
        self._table.create_index("vector", config=graph, replace=True)

    def compact(self, older: timedelta = timedelta(days=1)) -> None:
        """Join small files, and forget versions that are older; a reader that still uses one of them fails."""
        if self.dim is not None:
            self._table.optimize(cleanup_older_than=older)

    @property
    def dim(self) -> int | None:
        """Width of the vectors; None before the first."""
        if self._table is None:
            self._table = self._open()  # another process may have made it
        return None if self._table is None else int(self._table.schema.field("vector").type.list_size)

    def __len__(self) -> int:
        return 0 if self.dim is None else int(self._table.count_rows())

    def _open(self) -> Any:
        try:
            return self._db.open_table(self.table_name)
        except (ValueError, FileNotFoundError):  # LanceDB's word for a table that is not there
            return None

    def _columns(self) -> set[str]:
        return set() if self.dim is None else set(self._table.schema.names)

    def _scan(self, columns: list[str], where: str | None = None) -> Any:
        query = self._table.search().select(columns)
        return (query if where is None else query.where(where)).limit(max(1, len(self))).to_arrow()

    def _known(self, ids: Sequence[str]) -> set[str]:
        if self.dim is None:
            return set()
        wanted = set(ids)
        where = _in(list(wanted)) if len(wanted) <= _FEW else None
        return wanted & set(self._scan(["id"], where).column("id").to_pylist()) if wanted else set()

    def _write(self, rows: Rows, dim: int, replace: bool) -> None:
        for name in rows.ids:
            if not _unicode(name):
                raise ValueError(f"{self.kind}: LanceDB keeps no half surrogate pairs: id {name!r}")
        if self.dim is None:
            own = [pa.int64(), pa.string(), pa.string(), pa.list_(pa.float32(), dim), pa.bool_()]
            schema = pa.schema([pa.field(name, kind) for name, kind in zip(_OWN, own, strict=True)])
            self._table = self._db.create_table(self.table_name, schema=schema)
        cells, more = self._cells(rows)
        first = time.time_ns()  # later additions, by whomever, come later in the order of rows
        vectors = np.concatenate(rows.vectors).astype(np.float32).ravel()
        columns = {
            "n": pa.array(range(first, first + len(rows.ids)), pa.int64()),
            "id": pa.array(rows.ids, pa.string()),
            "payload": pa.array(rows.texts, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), dim),
            MORE: pa.array(more, pa.bool_()),
        }
        schema = self._table.schema
        arrays = [
            columns[each.name]
            if each.name in columns
            else pa.array(cells.get(each.name, [None] * len(more)), each.type)
            for each in schema
        ]
        table = pa.Table.from_arrays(arrays, schema=schema)
        if replace:
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(table)
        else:
            self._table.add(table)

    def _cells(self, rows: Rows) -> tuple[dict[str, list[Any]], list[bool]]:
        """The columns of payload keys, made where they are new, and which rows have keys without columns."""
        found = [facts(payload) for payload in rows.payloads]
        known = {name.split("_", 1)[1] for name in self._columns() - set(_OWN)}  # of every path that has columns
        cells: dict[str, list[Any]] = {}
        kinds: dict[str, Any] = {}
        more = [False] * len(found)
        for row, paths in enumerate(found):
            for path, fields in paths.items():
                base = field("k", path).split("_", 1)[1]
                if base not in known and len(known) >= _PATHS:
                    more[row] = True
                    continue
                known.add(base)
                for prefix, value in fields.items():
                    name = f"{prefix}_{base}"
                    kinds[name] = _TYPES[prefix]
                    cells.setdefault(name, [None] * len(found))[row] = value
        if new := sorted(set(kinds) - self._columns()):
            self._table.add_columns([pa.field(name, kinds[name]) for name in new])
        return cells, more

    def _remove(self, ids: list[str]) -> None:
        for start in range(0, len(ids), _FEW):
            self._table.delete(_in(ids[start : start + _FEW]))

    def _all(self) -> list[tuple[str, str]]:
        if self.dim is None:
            return []
        rows = self._scan(["n", "id", "payload"]).sort_by("n")
        return list(zip(rows.column("id").to_pylist(), rows.column("payload").to_pylist(), strict=True))

    def _vectors(self, ids: list[str]) -> dict[str, Vectors]:
        if self.dim is None or not ids:
            return {}
        rows = self._scan(["id", "vector"], _in(ids) if len(ids) <= _FEW else None)
        return {
            name: np.asarray(vector, dtype=np.float32)[None]
            for name, vector in zip(rows.column("id").to_pylist(), rows.column("vector").to_pylist(), strict=True)
        }

    def _condition(self, node: Node) -> str:
        return push(node, LanceSql(self._columns(), lambda text: self._table.count_rows(text) > 0))

    def _among(self, ids: list[str]) -> str:
        return _in(ids)

    def _nearest(self, queries: Embedding, k: int, condition: str | None) -> list[list[Found]]:
        found = []
        for vector in summed(queries):
            query = self._table.search(vector, vector_column_name="vector").distance_type("dot").limit(k)
            query = query if self.approximate else query.bypass_vector_index()
            query = query if condition is None else query.where(condition, prefilter=True)
            rows = query.select(["n", "id", "payload", "_distance"]).to_arrow()
            scores = (1 - rows.column("_distance").to_numpy()).tolist()  # LanceDB's dot distance is 1 less the product
            columns = (rows.column(name).to_pylist() for name in ("n", "id", "payload"))
            found.append([Found(*row) for row in zip(scores, *columns, strict=True)])
        return found

    def _address(self) -> dict[str, Any]:
        settings = {"approximate": self.approximate, "recall": self.recall}
        return {"uri": self.uri, "table": self.table_name, **settings}

    @classmethod
    def _reopen(cls, address: dict[str, Any], metric: str) -> Self:
        uri, table = address["uri"], address["table"]
        if "://" not in uri and not Path(uri).is_dir():
            raise IndexFileError(f"its rows are in {uri}, which is not there")
        index = cls(uri, table, metric=metric, approximate=address["approximate"], recall=address["recall"])
        if index.dim is None:
            raise IndexFileError(f"there is no table {table} in {uri}")
        return index


def _in(ids: list[str]) -> str:
    """Rows of some ids; those that no table can hold are in none."""
    names = [quoted(name) for name in ids if _unicode(name)]
    return f"id IN ({', '.join(names)})" if names else "false"


def _unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
