"""The syntax of a filter, for stores that filter in a language of their own.

A filter is tests of payload keys, joined by Every, Some and Not, in the three-valued logic of `filters`: a test of a
key that is missing or null is unknown. Whoever translates one needs for each test only where it is true, and where its
key is there: it is false where the key is there and it is not true.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from coembed.index.filters import Filter, Path


@dataclass(frozen=True)
class Leaf:
    """One test of a key.

    `op` is "==", "<", "<=", ">", ">=", "in" (the value is one of a list), "within" (it is part of a string), "has" (it
    holds `value`, as a list or as a string), "null" (the key is missing or null) or "true".
    """

    path: Path
    op: str
    value: Any = None


@dataclass(frozen=True)
class Not:
    """True where its part is false, and the other way round."""

    part: Node


@dataclass(frozen=True)
class Every:
    """`and`."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Some:
    """`or`."""

    parts: tuple[Node, ...]


Node = Leaf | Not | Every | Some

_OPS: dict[type[ast.cmpop], str] = {ast.Eq: "==", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def syntax(text: str) -> Node:
    """A filter's tree; raises FilterError as `Filter`.

    >>> syntax("lang != 'de'")
    Not(part=Leaf(path=('lang',), op='==', value='de'))
    """
    made = Filter(text)
    return _node(made, made._tree)


def _node(made: Filter, node: ast.expr) -> Node:
    if isinstance(node, ast.BoolOp):
        parts = tuple(_node(made, part) for part in node.values)
        return Every(parts) if isinstance(node.op, ast.And) else Some(parts)
    if isinstance(node, ast.UnaryOp):
        return Not(_node(made, node.operand))
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        pairs = [made._pair(*three) for three in zip(sides, node.ops, sides[1:], strict=False)]
        tests = tuple(_test(*pair) for pair in pairs)
        return tests[0] if len(tests) == 1 else Every(tests)
    return Leaf(made._path(node), "true")


def _test(path: Path, op: ast.cmpop, value: Any, turned: bool) -> Node:
    if isinstance(op, (ast.Is, ast.IsNot)):
        null = Leaf(path, "null")
        return null if isinstance(op, ast.Is) else Not(null)
    if isinstance(op, (ast.In, ast.NotIn)):
        inside = Leaf(path, "has" if turned else "within" if isinstance(value, str) else "in", value)
        return inside if isinstance(op, ast.In) else Not(inside)
    if isinstance(op, ast.NotEq):
        return Not(Leaf(path, "==", value))
    return Leaf(path, _OPS[type(op)], value)
