"""Parquet files as sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from coembed.sources.columns import SourceError
from coembed.sources.table import Row, Table
from coembed.sources.tiny import ROWS


class Parquet(Table):
    """A Parquet file, or a folder of them in the order of their names. Keywords as `Columns`.

    A row without id gets its number (from 0), in a folder after the file's stem and a colon. Raises ImportError if
    pyarrow is missing (the `parquet` extra), SourceError naming a damaged file or a column that is not there.

    >>> import tempfile, pyarrow.parquet
    >>> path = Path(tempfile.mkdtemp(), "cats.parquet")
    >>> pyarrow.parquet.write_table(pyarrow.table({"text": ["a cat", None]}), path)
    >>> [record.items for record in Parquet(path)]
    [{'text': 'a cat'}, {}]
    """

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """A file of eight pairs in four groups."""
        import pyarrow.parquet

        path = folder / "pairs.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        return cls(path)

    def _files(self) -> list[Path]:
        found = sorted(self.path.rglob("*.parquet")) if self.path.is_dir() else [self.path]
        if not found:
            raise SourceError(f"{self.path}: no .parquet file in this folder")
        return found

    def _header(self) -> Sequence[str]:
        with _parquet(self._files()[0]) as file:
            names: list[str] = file.schema_arrow.names
            return names

    def _rows(self) -> Iterator[Row]:
        for path in self._files():
            prefix = "" if path == self.path else f"{path.relative_to(self.path).with_suffix('').as_posix()}:"
            number = 0
            with _parquet(path) as file:
                self.columns.check(file.schema_arrow.names, str(path))
                for batch in file.iter_batches(batch_size=1024):
                    for row in batch.to_pylist():
                        yield f"{path}, row {number}", f"{prefix}{number}", row
                        number += 1


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError(f"{path}: Parquet needs pyarrow: pip install 'coembed[parquet]' ({error})") from error
    try:
        with ParquetFile(path) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{path}: damaged, or not Parquet ({error})") from error
