"""JSON lines and CSV as sources, streamed row by row, and the reader for a path."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

from coembed.items import describe
from coembed.sources.base import Source
from coembed.sources.columns import OnError, SourceError, Towers
from coembed.sources.folder import Folder
from coembed.sources.parquet import Parquet
from coembed.sources.table import Row, Table
from coembed.sources.tiny import ROWS


class Jsonl(Table):
    """One JSON object a line, UTF-8, blank lines skipped; `.gz` is unpacked. Keywords as `Columns`.

    Raises FileNotFoundError, and SourceError naming file and line: what is not JSON or not an object, a column that no
    line has.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "cats.jsonl")
    >>> _ = path.write_text('{"caption": "a cat", "file": "cat.png"}')
    >>> record = Jsonl(path, towers={"text": "caption", "image": "file"}, files=["image"])[0]
    >>> record["text"], record["image"].name, record.id
    ('a cat', 'cat.png', '1')
    """

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """A file of eight pairs in four groups."""
        path = folder / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
        return cls(path)

    def _rows(self) -> Iterator[Row]:
        with _open(self.path) as lines:
            for number, line in enumerate(lines, 1):
                where = f"{self.path}, line {number}"
                if line.strip():
                    yield where, str(number), _object(line, where)


class Csv(Table):
    """A table with a header line, UTF-8, cells quoted by "; `.gz` is unpacked. Keywords as `Columns`.

    Every cell is a string. Raises FileNotFoundError, and SourceError naming file and line: a row with too few or too
    many cells, an open quote, a column that is named but not there, or there twice.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "cats.csv")
    >>> _ = path.write_text("id,text,label\\n7,a cat,animal\\n")
    >>> Csv(path)[0]
    Record(items={'text': 'a cat'}, id='7', group=None, label='animal', weight=1.0, extra={})
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
        delimiter: str = ",",
    ) -> None:
        super().__init__(path, towers, id=id, group=group, label=label, weight=weight, files=files, on_error=on_error)
        if len(delimiter) != 1:
            raise ValueError(f"delimiter {delimiter!r} must be one character, like ',' or a tab")
        self.delimiter = delimiter

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """A file of eight pairs in four groups."""
        path = folder / "pairs.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ROWS[0])
            writer.writeheader()
            writer.writerows(ROWS)
        return cls(path)

    def _header(self) -> Sequence[str]:
        with _open(self.path) as lines:
            where = f"{self.path}, line 1"
            try:
                names = next(csv.reader(_Text(lines), delimiter=self.delimiter, strict=True), None)
            except (csv.Error, UnicodeDecodeError) as error:
                raise SourceError(f"{where}: a header line of column names is expected ({error})") from error
        if not names:
            raise SourceError(f"{where}: a header line of column names is expected, got nothing")
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise SourceError(f"{where}: column {double!r} occurs twice: rename one")
        if "" in names and self.columns.own:
            raise SourceError(f"{where}: column {names.index('') + 1} has no name: name it, or give towers=")
        return names

    def _rows(self) -> Iterator[Row]:
        names = self._header()
        csv.field_size_limit(2**31 - 1)  # the default refuses cells over 128 kB: a gene in a cell is longer
        with _open(self.path) as lines:
            text = _Text(lines)
            reader = csv.reader(text, delimiter=self.delimiter, strict=True)
            next(reader)
            while True:
                line = str(text.number + 1)  # where the row begins: quoted cells may span lines
                where = f"{self.path}, line {line}"
                try:
                    cells = next(reader, None)
                except (csv.Error, UnicodeDecodeError) as error:
                    yield where, line, SourceError(f"{where}: comma-separated UTF-8 is expected ({error})")
                    continue
                if cells is None:
                    return
                if len(cells) not in (0, len(names)):
                    yield where, line, SourceError(f"{where}: {len(names)} cells are expected, got {len(cells)}")
                elif cells:
                    yield where, line, dict(zip(names, cells, strict=True))


def open_source(
    path: Path | str,
    towers: Any = None,
    *,
    id: str = "id",
    group: str | None = None,
    label: str | None = None,
    weight: str | None = None,
    files: Sequence[str] = (),
    on_error: OnError = "raise",
) -> Source:
    """The source for a path by its suffix: .jsonl, .ndjson, .csv, .tsv (each also .gz), .parquet, or a folder.

    A folder that holds Parquet files is one table; any other is a `Folder`, whose `towers` map names to suffixes.
    Keywords as `Columns`. Raises ValueError naming the suffixes for another one.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "cats.tsv")
    >>> _ = path.write_text("text\\tcode\\na cat\\tcat()\\n")
    >>> open_source(path).towers
    ('text', 'code')
    """
    path = Path(path)
    if path.is_dir() and not any(path.glob("*.parquet")):
        return Folder(path, towers, group=group, label=label)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        tab = "\t" if name.endswith(".tsv") else ","
        return Csv(
            path,
            towers,
            id=id,
            group=group,
            label=label,
            weight=weight,
            files=files,
            on_error=on_error,
            delimiter=tab,
        )
    kinds: dict[str, type[Table]] = {".jsonl": Jsonl, ".ndjson": Jsonl, ".parquet": Parquet}
    kind = Parquet if path.is_dir() else next((kinds[s] for s in kinds if name.endswith(s)), None)
    if kind is None:
        raise ValueError(f"{path}: no source reads this; use .jsonl, .ndjson, .csv, .tsv, .parquet or a folder")
    return kind(path, towers, id=id, group=group, label=label, weight=weight, files=files, on_error=on_error)


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The lines of a file, unpacked if its name says so; damage is an error that names the file."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{path}: damaged or cut off ({error})") from error


def _decode(line: bytes) -> str:
    return line.decode("utf-8").removeprefix("\ufeff")  # a byte order mark, as spreadsheets write


class _Text:
    """Decoded lines and how many were read; a line that is not UTF-8 raises, and the next call goes on after it."""

    def __init__(self, lines: IO[bytes]) -> None:
        self.lines, self.number = lines, 0

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.number += 1
        return _decode(line)


def _object(line: bytes, where: str) -> Mapping[str, Any] | SourceError:
    try:
        row = json.loads(_decode(line))
    except ValueError as error:  # a line that is not UTF-8, too
        return SourceError(f"{where}: a JSON object is expected ({error})")
    if not isinstance(row, dict):
        return SourceError(f"{where}: a JSON object is expected, got {describe(row)}")
    return row
