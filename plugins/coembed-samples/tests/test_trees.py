"""Syntax trees of the standard library's functions are graphs of their code."""

from __future__ import annotations

import ast
import json
from itertools import islice

import networkx as nx
import pytest

from coembed import load
from coembed_samples.stdlib import Stdlib
from coembed_samples.trees import LONGEST, syntax_graph


def test_a_tree_holds_the_syntax_of_its_code() -> None:
    code = (
        "def f(a, *, b=None):\n    import os.path as p\n    for x in a:\n        x.y += 'é' * 1.5\n    return p(b, *a)"
    )
    data = syntax_graph(code)
    graph = nx.node_link_graph(data, edges="edges")
    wanted = [node for node in ast.walk(ast.parse(code).body[0]) if not isinstance(node, ast.expr_context)]
    assert len(graph) == len(wanted)
    texts = [text for _, text in graph.nodes(data="text")]
    assert texts[0] == "FunctionDef f" and data["graph"] == {"root": 0}
    assert sorted(text.split()[0] for text in texts) == sorted(type(node).__name__ for node in wanted)
    assert {"alias os.path p", "Constant 'é'", "Constant 1.5", "Constant None", "Attribute y", "arg a"} <= set(texts)
    tree = nx.DiGraph((u, v) for u, v, kind in graph.edges(data="type") if kind != "next")
    assert nx.is_arborescence(tree) and set(nx.descendants(tree, 0)) | {0} == set(graph)


def test_order_is_in_the_graph() -> None:
    one, other = (syntax_graph(f"def f():\n    {first}\n    {second}") for first, second in (("a", "b"), ("b", "a")))
    chain = [
        [
            (data["nodes"][e["source"]]["text"], data["nodes"][e["target"]]["text"])
            for e in data["edges"]
            if e["type"] == "next"
        ]
        for data in (one, other)
    ]
    assert [len(links) for links in chain] == [1, 1]
    assert one["nodes"][2]["text"] == "Expr" and one["nodes"] != other["nodes"]


def test_long_constants_are_cut() -> None:
    data = syntax_graph(f"def f():\n    return {'x' * 500!r}")
    assert max(len(node["text"]) for node in data["nodes"]) <= LONGEST + len("Constant ")


def test_code_without_a_statement_is_refused() -> None:
    with pytest.raises(SyntaxError):
        syntax_graph("# nothing")


def test_the_default_is_text_and_code() -> None:
    assert Stdlib().towers == ("text", "code") and set(next(iter(Stdlib())).items) == {"text", "code"}


def test_graphs_stand_beside_text_and_code() -> None:
    plain, full = Stdlib("hidden"), load("samples/stdlib", name="hidden", towers=["text", "code", "graph"])
    assert full.towers == ("text", "code", "graph") and len(full) == len(plain)
    for a, b in islice(zip(plain, full, strict=True), 300):
        assert (a.id, a.group, a["text"], a["code"]) == (b.id, b.group, b["text"], b["code"])
        assert json.loads(json.dumps(b["graph"])) == b["graph"]
        assert b["graph"] == syntax_graph(a["code"])
        root = b["graph"]["nodes"][0]["text"].split()
        assert root[0] in {"FunctionDef", "AsyncFunctionDef"} and root[1] in {"f", "func"}  # the name stays hidden
    assert set(next(iter(Stdlib(towers=["text", "graph"]))).items) == {"text", "graph"}


@pytest.mark.parametrize("towers", [(), ("text", "image"), ("text", "text"), "graph"])
def test_unknown_towers_are_refused(towers: object) -> None:
    with pytest.raises(ValueError, match="text, code, graph"):
        Stdlib(towers=towers)  # type: ignore[arg-type]
