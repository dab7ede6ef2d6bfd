"""Small graphs for tests and examples."""

from __future__ import annotations

from typing import Any

import networkx as nx


def samples() -> list[Any]:
    """Five graphs: a molecule, a syntax tree as node-link JSON, two parts, a lone self-loop, a directed multigraph.

    >>> len(samples())
    5
    """
    ethanol = nx.Graph()
    ethanol.add_nodes_from([(0, {"text": "C h3"}), (1, {"text": "C h2"}), (2, {"text": "O h1"})])
    ethanol.add_edges_from([(0, 1), (1, 2)], type="single")
    tree = {
        "directed": True,
        "multigraph": False,
        "graph": {"root": 0},
        "nodes": [{"id": 0, "text": "Return"}, {"id": 1, "text": "BinOp"}, {"id": 2, "text": "Name x"}],
        "edges": [{"source": 0, "target": 1, "type": "value"}, {"source": 1, "target": 2, "type": "left"}],
    }
    parts = nx.disjoint_union(nx.cycle_graph(3), nx.path_graph(4))
    loop = nx.Graph([("me", "me", {"type": "knows"})])
    family = nx.MultiDiGraph()
    family.add_nodes_from(["ada", "bo", "cy"], text="person")
    family.add_edges_from([("ada", "bo", {"type": "parent"}), ("ada", "bo", {"type": "boss"}), ("cy", "ada", {})])
    return [ethanol, tree, parts, loop, family]
