"""A function's syntax tree as a graph: node-link JSON, as networkx reads it."""

from __future__ import annotations

import ast
from typing import Any

#: Constants longer than this are cut: a message's text is not structure.
LONGEST = 40

# What a name is used for is told by where it stands.
_SKIPPED = (ast.expr_context,)


def syntax_graph(code: str) -> dict[str, Any]:
    """The syntax tree of a Python function as a directed graph in node-link JSON, its definition the root.

    A node's text is the kind of syntax and the names or constant in it, an edge's type the field that the child stands
    in; "next" edges join the statements, arguments and elements of a list in order. Raises SyntaxError if the code does
    not parse to one statement or more.

    >>> graph = syntax_graph("def f(r):\\n    return 3 * r")
    >>> [node["text"] for node in graph["nodes"]]
    ['FunctionDef f', 'arguments', 'arg r', 'Return', 'BinOp', 'Constant 3', 'Mult', 'Name r']
    >>> graph["edges"][-1]
    {'source': 4, 'target': 7, 'type': 'right'}
    """
    body = ast.parse(code).body
    if not body:
        raise SyntaxError("no statement in the code")
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    _add(body[0], nodes, edges)
    return {"directed": True, "multigraph": False, "graph": {"root": 0}, "nodes": nodes, "edges": edges}


def _add(node: ast.AST, nodes: list[dict[str, Any]], edges: list[dict[str, Any]]) -> int:
    """Add a node and what is below it, depth first; returns its number."""
    number = len(nodes)
    words: list[str] = [type(node).__name__]
    nodes.append({"id": number})
    for field, value in ast.iter_fields(node):
        before: int | None = None
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST):
                if isinstance(part, _SKIPPED):
                    continue
                edges.append({"source": number, "target": len(nodes), "type": field})
                child = _add(part, nodes, edges)
                if before is not None:
                    edges.append({"source": before, "target": child, "type": "next"})
                before = child if isinstance(value, list) else None
            elif part is not None or (field == "value" and isinstance(node, ast.Constant)):
                words += _words(node, field, part)
    nodes[number]["text"] = " ".join(words)
    return number


def _words(node: ast.AST, field: str, value: object) -> list[str]:
    """What a field that is no syntax says: a name, an operator's number, a constant."""
    if isinstance(node, ast.Constant):
        text = repr(value)
        return [] if field == "kind" else [text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"]
    if isinstance(value, str):
        return [] if field == "type_comment" else [value]
    return []  # levels of imports, whether an annotation is simple: numbers that say little
