"""A neighbourhood of one node, cut from a graph that is too large to encode whole."""

from __future__ import annotations

import random
from typing import Any

import networkx as nx


def ego(graph: Any, node: Any, hops: int = 2, most: int | None = None, seed: int = 0) -> Any:
    """The nodes within some hops of a node, whichever way edges point, and the edges between them.

    Beyond `most` nodes the nearest stay; which of a ring that no longer fits whole is drawn by `seed`. Returns a copy
    whose `.graph["root"]` is the node, listed first. Raises ValueError for an unknown node, negative hops, or a `most`
    below 1.

    >>> sorted(ego(nx.path_graph(9), 4, hops=1)), ego(nx.star_graph(9), 0, most=3).number_of_nodes()
    ([3, 4, 5], 3)
    """
    _check(graph, node, most)
    if hops < 0:
        raise ValueError(f"hops={hops} must be at least 0")
    room = len(graph) if most is None else most
    draw = random.Random(seed)
    kept = {node: None}  # a dict keeps the order, a set of strings another one each run
    ring = [node]
    for _ in range(hops):
        fresh = dict.fromkeys(other for inner in ring for other in _neighbors(graph, inner) if other not in kept)
        ring = list(fresh)
        if len(kept) + len(ring) > room:
            ring = draw.sample(ring, room - len(kept))
        kept.update(dict.fromkeys(ring))
    return _cut(graph, node, list(kept))


def walk(graph: Any, node: Any, steps: int = 256, restart: float = 0.5, most: int | None = None, seed: int = 0) -> Any:
    """The nodes that a random walk with restart meets, whichever way edges point, and the edges between them.

    At each of `steps` steps the walk goes back to the node with probability `restart`, else to a random neighbour; it
    ends early when `most` nodes are met. Returns a copy whose `.graph["root"]` is the node, listed first. Raises
    ValueError for an unknown node, negative steps, a `restart` outside 0..1, or a `most` below 1.

    >>> walk(nx.cycle_graph(50), 7, steps=20).graph["root"]
    7
    """
    _check(graph, node, most)
    if steps < 0 or not 0 <= restart <= 1:
        raise ValueError(f"steps={steps} must be at least 0, restart={restart} between 0 and 1")
    draw = random.Random(seed)
    kept, at = {node: None}, node
    for _ in range(steps):
        if len(kept) == (most or len(graph)):
            break
        others = _neighbors(graph, at)
        at = node if not others or draw.random() < restart else draw.choice(others)
        kept[at] = None
    return _cut(graph, node, list(kept))


def _check(graph: Any, node: Any, most: int | None) -> None:
    if not isinstance(graph, nx.Graph):
        raise ValueError(f"a networkx graph is expected, got {type(graph).__name__}")
    if node not in graph:
        raise ValueError(f"node {node!r} is not in the graph of {len(graph)} nodes")
    if most is not None and most < 1:
        raise ValueError(f"most={most} must be at least 1: the node itself")


def _neighbors(graph: Any, node: Any) -> list[Any]:
    """In the graph's own order, each once."""
    if graph.is_directed():
        return list(dict.fromkeys([*graph.successors(node), *graph.predecessors(node)]))
    return list(graph.neighbors(node))


def _cut(graph: Any, node: Any, kept: list[Any]) -> Any:
    part = graph.__class__()
    part.graph.update(graph.graph, root=node)
    part.add_nodes_from((other, graph.nodes[other]) for other in kept)
    inside = set(kept)
    keys = {"keys": True} if graph.is_multigraph() else {}
    part.add_edges_from(edge for edge in graph.edges(kept, data=True, **keys) if edge[1] in inside)
    return part
