"""Documented functions of a Python source, cut out as they were written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Function:
    """A function: dotted name in its module, cleaned docstring, code without docstrings, lines of code in its body."""

    qualname: str
    docstring: str
    code: str
    lines: int

    @property
    def name(self) -> str:
        """The last part of the dotted name."""
        return self.qualname.rpartition(".")[2]


def functions(source: str) -> Iterator[Function]:
    """Every documented function of a module's source, methods and inner functions too, in order.

    A function is left out where a docstring shares its line with other code. Raises SyntaxError if the source does not
    parse.

    >>> [f] = functions('def area(r):\\n    "Area of a circle."\\n    # as taught\\n    return 3 * r * r\\n')
    >>> f.docstring, f.code, f.lines
    ('Area of a circle.', 'def area(r):\\n    # as taught\\n    return 3 * r * r', 1)
    """
    lines = source.split("\n")  # not splitlines: a form feed ends no line of Python
    for qualname, node in _definitions(ast.parse(source), ""):
        docstring = ast.get_docstring(node)
        if docstring is None or isinstance(node, ast.ClassDef):
            continue
        cut = _without_docstrings(node, lines)
        if cut is not None:
            yield Function(qualname, docstring, *cut)


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, DEFINITIONS):
            qualname = prefix + child.name
            yield qualname, child
            inner = "." if isinstance(child, ast.ClassDef) else ".<locals>."
            yield from _definitions(child, qualname + inner)
        else:
            yield from _definitions(child, prefix)


def _without_docstrings(node: Definition, lines: list[str]) -> tuple[str, int] | None:
    """Dedented code of a function and the lines of code in its body; None where a docstring cannot be cut out."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    last = node.end_lineno or node.lineno
    kept: dict[int, str] = {number: lines[number - 1] for number in range(first, last + 1)}
    for inner in ast.walk(node):
        if not isinstance(inner, DEFINITIONS) or ast.get_docstring(inner, clean=False) is None:
            continue
        statement = inner.body[0]
        start, end = statement.lineno, statement.end_lineno or statement.lineno
        # Columns count bytes of UTF-8.
        before = lines[start - 1].encode()[: statement.col_offset].decode()
        after = lines[end - 1].encode()[statement.end_col_offset :].decode().strip()
        if before.strip() or (after and not after.startswith("#")):
            return None
        for number in range(start, end + 1):
            del kept[number]
        if len(inner.body) == 1:
            kept[start] = f"{before}pass"
        elif not kept.get(end + 1, "x").strip():
            del kept[end + 1]
    body = (node.body[0].end_lineno or first) + 1
    indent = lines[first - 1][: len(lines[first - 1]) - len(lines[first - 1].lstrip())]
    # A line that is not indented as much lies inside a string or a bracket, and stays as it is.
    code = "\n".join(kept[number].removeprefix(indent).rstrip() for number in sorted(kept))
    return code, sum(1 for number, line in kept.items() if number >= body and line.strip() and line.lstrip()[0] != "#")
