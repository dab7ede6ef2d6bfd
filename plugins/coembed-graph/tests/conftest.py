"""Graphs and encoders that several tests use."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest

import coembed

ENCODERS = {
    "gin": ("graph/gin", {"dim": 32, "layers": 3}),
    "gin-rwpe": ("graph/gin", {"dim": 32, "layers": 2, "positions": "rwpe"}),
    "gps": ("graph/gps", {"dim": 32, "layers": 2}),
    "gps-laplacian": ("graph/gps", {"dim": 32, "layers": 2, "positions": "laplacian"}),
    "gps-root": ("graph/gps", {"dim": 32, "layers": 2, "pooling": "mean+root"}),
    "wl": ("graph/wl", {"dim": 512}),
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> Any:
    name, arguments = ENCODERS[request.param]
    return coembed.load(name, **arguments).eval()


def make_labelled(seed: int = 0, kind: type = nx.MultiDiGraph, nodes: int = 12) -> Any:
    """A random graph with texts, types, parallel edges, self-loops, several parts and a root."""
    draw = random.Random(seed)
    graph = kind(root=3)
    graph.add_nodes_from((i, {"text": draw.choice(["red", "green apple", "blue sky"])}) for i in range(nodes))
    for _ in range(2 * nodes):
        u, v = draw.randrange(nodes - 2), draw.randrange(nodes - 2)  # the last two stay alone
        graph.add_edge(u, v, type=draw.choice(["is", "has"]))
    return graph


def make_renamed(graph: Any, seed: int = 1) -> Any:
    """An isomorphic copy: other identifiers, other order of nodes and edges, and of the ends of undirected edges."""
    draw = random.Random(seed)
    nodes, edges = list(graph.nodes(data=True)), list(graph.edges(data=True))
    name = {node: f"n{i}" for i, node in enumerate(draw.sample(list(graph), len(graph)))}
    draw.shuffle(nodes)
    draw.shuffle(edges)
    copy = graph.__class__()
    if "root" in graph.graph:
        copy.graph["root"] = name[graph.graph["root"]]
    copy.add_nodes_from((name[node], attributes) for node, attributes in nodes)
    for u, v, attributes in edges:
        u, v = (v, u) if not graph.is_directed() and draw.random() < 0.5 else (u, v)
        copy.add_edge(name[u], name[v], **attributes)
    return copy


@pytest.fixture(scope="session")
def labelled() -> Callable[..., Any]:
    return make_labelled


@pytest.fixture(scope="session")
def renamed() -> Callable[..., Any]:
    return make_renamed
