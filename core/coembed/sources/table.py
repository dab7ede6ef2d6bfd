"""Table: what JSON lines, CSV and Parquet sources share: rows in, records out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from coembed.sources.base import Record, Records, Source
from coembed.sources.columns import Columns, OnError, SourceError, Towers

Row = tuple[str, str, Mapping[str, Any] | SourceError]  # where it is, its id if it has none, its cells or its fault


class Table(Source):
    """A file of rows; `Columns` says how a row becomes a record.

    Iterating streams; length and indexing read the records once and keep them, and check that ids are unique there.
    `on_error` is called with the SourceError of each bad row, which is then left out; "raise" raises it.
    """

    def __init__(
        self,
        path: Path | str,
        towers: Towers = None,
        *,
        id: str = "id",
        group: str | None = None,
        label: str | None = None,
        weight: str | None = None,
        files: Sequence[str] = (),
        on_error: OnError = "raise",
    ) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such file")
        folder = self.path if self.path.is_dir() else self.path.parent
        self.columns = Columns(towers, id, group, label, weight, files, folder)
        self.on_error = on_error

    @abstractmethod
    def _rows(self) -> Iterator[Row]:
        """The rows of the file; a bad one is given as its error, so that reading can go on after it."""

    def _header(self) -> Sequence[str] | None:
        """The names of the columns, if the file says them beforehand."""
        return None

    def __iter__(self) -> Iterator[Record]:
        header = self._header()
        if header is not None:
            self.columns.check(header, str(self.path))
        seen: dict[str, None] = {}
        rows = 0
        for where, place, row in self._rows():
            rows += 1
            try:
                if isinstance(row, SourceError):
                    raise row
                seen.update(dict.fromkeys(row))
                if not any(column in row for column in self.columns.tower_columns(row).values()):
                    self.columns.check(row, where)
                record = self.columns.record(row, where, place)
            except SourceError as error:
                if self.on_error == "raise":
                    raise
                self.on_error(error)
            else:
                yield record
        if header is None and seen:  # rows may lack a column, but one that no row has is a typo
            self.columns.check(seen, f"{self.path}, all {rows} rows")

    def _records(self) -> Sequence[Record]:
        if self._cached is None:
            try:
                self._cached = list(Records(record for record in self))
            except SourceError:
                raise
            except ValueError as error:
                raise SourceError(f"{self.path}: {error}") from error
        return self._cached

    @property
    def towers(self) -> tuple[str, ...]:
        """The towers that the columns were named for; in coembed's own layout, those that the file has."""
        header = self._header()
        if self.columns.own and header is None:
            return tuple(dict.fromkeys(name for record in self for name in record.items))
        return tuple(self.columns.tower_columns(header or ()))
