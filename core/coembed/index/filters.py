"""Filters: `lang == "de" and year > 2020` over payloads, parsed, never evaluated as code.

Names are keys of the payload, `a.b` a key within a key, `payload["odd key"]` any key, `payload` the whole of it. There
are ==, !=, <, <=, >, >=, `in`, `not in`, `is None`, `is not None`, `and`, `or`, `not` and parentheses; constants are
strings, numbers, true, false and lists of them. `"red" in tags` looks into a list, or for a part of a string.

A key that is missing or null is unknown, as in SQL: every comparison with it is neither true nor false, and so is its
`not`; only what is true passes. Values of different types are never equal, and never less or greater.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Path = tuple[str, ...]
ALLOWED = "keys of the payload, strings, numbers, true, false, lists, ==, !=, <, <=, >, >=, in, is None, and, or, not"
ROWS = 1024  # payloads read at once: as many objects as stay in cache
_LONGEST = 10_000
_WORDS = {"true": True, "false": False}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MIRRORED = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE, ast.Eq: ast.Eq, ast.NotEq: ast.NotEq}


class FilterError(ValueError):
    """A filter that can't be read; the message names the position and what is allowed."""


class Columns(Protocol):
    """Where a filter finds what rows hold: of a key the distinct values, and the number of its value for each row."""

    def read(self, paths: Iterable[Path]) -> None:
        """Told which columns will be asked for, so that one pass over the rows can make them all."""

    def column(self, path: Path) -> tuple[list[Any], NDArray[np.int64]]:
        """Distinct values, and for each row `[N]` the position of its own."""


class Filter:
    """A filter, parsed; raises FilterError for anything but comparisons of payload keys with constants.

    >>> Filter("lang == 'de' and year > 2020").mask(Payloads([{"lang": "de", "year": 2021}, {"lang": "de"}])).tolist()
    [True, False]
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _LONGEST:
            raise FilterError(f"the filter has {len(text)} characters, at most {_LONGEST} are read")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
            self.paths = tuple(dict.fromkeys(self._checked(self._tree)))
        except SyntaxError as error:
            at = (error.offset or 1) - 1
            hint = "; equality is written ==" if "==" in (error.msg or "") else ""
            raise self._fault(at, f"{error.msg}{hint}") from None
        except (RecursionError, MemoryError, ValueError) as error:
            if isinstance(error, FilterError):
                raise
            raise FilterError(f"the filter can't be read ({error or type(error).__name__})") from None

    def mask(self, columns: Columns) -> Mask:
        """Which rows pass `[N]`."""
        columns.read(self.paths)
        return self._truth(self._tree, columns)[0]

    def _checked(self, node: ast.expr) -> Iterator[Path]:
        """The keys; every fault is found before any row is looked at."""
        if isinstance(node, ast.BoolOp):
            for part in node.values:
                yield from self._checked(part)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield from self._checked(node.operand)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
                yield self._pair(left, op, right)[0]
        else:
            yield self._path(node)  # a key by itself: whether it is true

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> tuple[Path, ast.cmpop, Any, bool]:
        """The key, the comparison, the constant, and whether the constant stood first."""
        first, second = self._is_key(left), self._is_key(right)
        if first == second:
            if first:
                self._refuse(right, "two keys are compared")
            for side in (left, right):
                self._constant(side)  # says what else stands there
            self._refuse(right, "two constants are compared")
        if isinstance(op, (ast.Is, ast.IsNot)):
            if not (isinstance(right, ast.Constant) and right.value is None):
                self._refuse(right, "`is` goes with None only")
            return self._path(left), op, None, False
        key, constant = (left, right) if first else (right, left)
        value = self._constant(constant)
        if value is None:
            self._refuse(constant, "a missing key is asked for by `is None`")
        if isinstance(op, (ast.In, ast.NotIn)):
            if first and not isinstance(value, (list, str)):
                self._refuse(constant, "`in` takes a list or a string")
        elif isinstance(value, list):
            self._refuse(constant, "a list goes after `in`")
        elif not first:
            op = _MIRRORED[type(op)]()
        return self._path(key), op, value, not first

    def _is_key(self, node: ast.expr) -> bool:
        return isinstance(node, (ast.Attribute, ast.Subscript)) or (
            isinstance(node, ast.Name) and node.id not in _WORDS and node.id != "null"
        )

    def _path(self, node: ast.expr) -> Path:
        if isinstance(node, ast.Name) and self._is_key(node):
            return () if node.id == "payload" else (node.id,)
        if isinstance(node, ast.Attribute):
            return (*self._path(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                return (*self._path(node.value), node.slice.value)
            self._refuse(node, "a key in brackets is a string")
        self._refuse(node, "a key of the payload is expected")

    def _constant(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (str, int, float))):
            return node.value
        if isinstance(node, ast.Name) and (node.id in _WORDS or node.id == "null"):
            return _WORDS.get(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            if isinstance(node.operand.value, (int, float)):
                return -node.operand.value
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return [self._constant(part) for part in node.elts]
        self._refuse(node, "a constant is expected")

    def _truth(self, node: ast.expr, columns: Columns) -> tuple[Mask, Mask]:
        """Where it is true and where it is false; unknown is neither."""
        if isinstance(node, ast.BoolOp):
            parts = [self._truth(part, columns) for part in node.values]
            true, false = [p[0] for p in parts], [p[1] for p in parts]
            if isinstance(node.op, ast.And):
                return np.logical_and.reduce(true), np.logical_or.reduce(false)
            return np.logical_or.reduce(true), np.logical_and.reduce(false)
        if isinstance(node, ast.UnaryOp):
            true_, false_ = self._truth(node.operand, columns)
            return false_, true_
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            pairs = [self._pair(*three) for three in zip(sides, node.ops, sides[1:], strict=False)]
            found = [_compared(columns, *pair) for pair in pairs]
            return np.logical_and.reduce([f[0] for f in found]), np.logical_or.reduce([f[1] for f in found])
        return _looked_up(
            columns, self._path(node), lambda value: value is True or None if value is not False else False
        )

    def _refuse(self, node: ast.expr, why: str) -> NoReturn:
        raise self._fault(node.col_offset, why)

    def _fault(self, at: int, why: str) -> FilterError:
        text = self.text.strip()
        return FilterError(f"filter {text!r}, position {at + 1} ({text[at : at + 20]!r}): {why}; allowed: {ALLOWED}")


class Payloads:
    """The columns of payloads in memory; each is made when first asked for, and kept.

    >>> Payloads([{"a": 1}, {"a": 2}, {"a": 1}]).column(("a",))
    ([1, 2], array([0, 1, 0]))
    """

    def __init__(self, payloads: Sequence[Any]) -> None:
        self._payloads = payloads
        self._made: dict[Path, tuple[list[Any], NDArray[np.int64]]] = {}

    def read(self, paths: Iterable[Path]) -> None:
        """See `Columns`."""
        new = {path: _Column(path) for path in paths if path not in self._made}
        if not new:
            return
        for start in range(0, len(self._payloads), ROWS):
            some = self._payloads[start : start + ROWS]
            for column in new.values():
                column.add(some)
        self._made |= {path: column.whole() for path, column in new.items()}

    def column(self, path: Path) -> tuple[list[Any], NDArray[np.int64]]:
        """See `Columns`."""
        self.read([path])
        return self._made[path]


class _Column:
    """What a key holds, some payloads after the others; written so that few steps of Python go to a row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[Any, int] = {}
        self._values: list[Any] = []
        self._at: list[NDArray[np.int64]] = []

    def add(self, payloads: Sequence[Any]) -> None:
        some = payloads
        for name in self._path:
            some = [value.get(name) if isinstance(value, dict) else None for value in some]
        keys = some if set(map(type, some)) <= _PLAIN else [_key(value) for value in some]
        for key, value in dict(zip(keys, some, strict=True)).items():
            if key not in self._numbers:
                self._numbers[key] = len(self._values)
                self._values.append(value)
        self._at.append(np.fromiter(map(self._numbers.__getitem__, keys), np.int64, len(keys)))

    def whole(self) -> tuple[list[Any], NDArray[np.int64]]:
        return self._values, np.concatenate(self._at) if self._at else np.zeros(0, np.int64)


_PLAIN = {str, int, type(None)}


def _key(value: Any) -> Any:
    """What tells values apart in a dict, where 1, 1.0 and True are one key, and lists are none."""
    if type(value) in _PLAIN:
        return value
    return type(value), repr(value) if isinstance(value, (list, dict)) else value


def _compared(columns: Columns, path: Path, op: ast.cmpop, wanted: Any, turned: bool) -> tuple[Mask, Mask]:
    if isinstance(op, (ast.Is, ast.IsNot)):
        missing = isinstance(op, ast.Is)
        values, at = columns.column(path)
        true = np.array([(value is None) == missing for value in values], dtype=bool)[at]
        return true, ~true

    def holds(value: Any) -> bool | None:
        if value is None:
            return None
        if isinstance(op, (ast.In, ast.NotIn)):
            inside = _inside(wanted, value) if turned else _inside(value, wanted)
            return inside == isinstance(op, ast.In)
        if isinstance(op, (ast.Eq, ast.NotEq)):
            return _equal(value, wanted) == isinstance(op, ast.Eq)
        kind = _kind(value)
        return kind in ("number", "string") and kind == _kind(wanted) and _ORDER[type(op)](value, wanted)

    return _looked_up(columns, path, holds)


def _looked_up(columns: Columns, path: Path, holds: Callable[[Any], bool | None]) -> tuple[Mask, Mask]:
    """Each distinct value is judged once, in plain Python; rows look the verdict up."""
    values, at = columns.column(path)
    verdicts = [holds(value) for value in values]
    true = np.array([verdict is True for verdict in verdicts], dtype=bool)
    return true[at], np.array([verdict is False for verdict in verdicts], dtype=bool)[at]


def _inside(value: Any, some: Any) -> bool:
    if isinstance(some, str):
        return isinstance(value, str) and value in some
    return isinstance(some, list) and any(_equal(value, one) for one in some)


def _equal(a: Any, b: Any) -> bool:
    return _kind(a) == _kind(b) and bool(a == b)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else type(value).__name__
