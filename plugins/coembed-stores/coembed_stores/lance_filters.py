"""Filters as LanceDB's SQL over flat typed columns (see `facts`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from coembed_stores.facts import exact, field
from coembed_stores.pushdown import Cant, Path, Scalar

MORE = "more"  # the column that is true where a payload has keys without columns


class LanceSql:
    """The language of `pushdown` in LanceDB's SQL, which binds no parameters: constants are quoted, keys never appear.

    `columns` are those that the table has, `any_row` says whether some row passes an expression.

    >>> sql = LanceSql({"k_p_lang", "s_p_lang"}, lambda text: False)
    >>> sql.equal(("lang",), "it's")
    "coalesce(s_p_lang = 'it''s', false)"
    """

    def __init__(self, columns: Collection[str], any_row: Callable[[str], bool]) -> None:
        self.columns, self.any_row = columns, any_row

    def there(self, path: Path) -> str:
        """See `Language`."""
        column = field("k", path)
        if column in self.columns:
            return f"({column} IS NOT NULL)"
        if MORE in self.columns and self.any_row(MORE):
            raise Cant(f"payloads have more keys than the table has columns for, and {'.'.join(path)} may be one")
        return self.never()

    def equal(self, path: Path, value: Scalar) -> str:
        """See `Language`."""
        prefix, text = self._constant(value)
        column = field(prefix, path)
        return self._of(column, f"{column} = {text}")

    def order(self, path: Path, op: str, value: str | int | float) -> str:
        """See `Language`; LanceDB compares strings by bytes of UTF-8, which is by code points."""
        prefix, text = self._constant(value)
        self._whole(path, "string!" if isinstance(value, str) else "number!")
        column = field(prefix, path)
        return self._of(column, f"{column} {op} {text}")

    def has(self, path: Path, value: Scalar) -> str:
        """See `Language`."""
        prefix, text = self._constant(value)
        several, one = field(f"l{prefix}", path), field("s", path)
        listed = self._of(several, f"array_has({several}, {text})")
        if not isinstance(value, str):
            return listed
        self._whole(path, "string!")
        return self.some([listed, self._of(one, f"strpos({one}, {text}) > 0")])

    def within(self, path: Path, text: str) -> str:
        """See `Language`."""
        column = field("s", path)
        return self._of(column, f"strpos({self._constant(text)[1]}, {column}) > 0")

    def every(self, parts: Sequence[str]) -> str:
        """See `Language`."""
        return f"({' AND '.join(parts)})"

    def some(self, parts: Sequence[str]) -> str:
        """See `Language`."""
        return f"({' OR '.join(parts)})"

    def negate(self, part: str) -> str:
        """See `Language`."""
        return f"(NOT {part})"

    def never(self) -> str:
        """See `Language`."""
        return "false"

    def _of(self, column: str, text: str) -> str:
        return f"coalesce({text}, false)" if column in self.columns else self.never()

    def _whole(self, path: Path, kind: str) -> None:
        """Raise Cant if a row holds more than its column can, which an order would have to know."""
        column = field("k", path)
        if column in self.columns and self.any_row(f"{column} = '{kind}'"):
            raise Cant(f"some values of {'.'.join(path)} are more than a column holds exactly ({kind})")

    @staticmethod
    def _constant(value: Scalar) -> tuple[str, str]:
        found = exact(value)
        if found is None:
            raise Cant(f"a column can't hold {value!r} exactly")
        prefix, held = found
        if prefix == "n":
            return prefix, f"CAST('{held!r}' AS DOUBLE)"
        return prefix, quoted(held) if prefix == "s" else str(held).lower()


def quoted(text: str) -> str:
    """A string as a literal of SQL.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"
