"""Graphs as SVG: syntax trees from left to right as the demo's report draws them, others by forces."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from coembed.demo import draw

NODES = 60  # of a graph that is no tree; more would be a knot
WIDTH, HEIGHT = 420, 300


def drawing(graph: Any) -> str:
    """A graph as SVG: networkx graphs, node-link JSON; anything else is said to be there, not drawn.

    >>> drawing({"nodes": [{"id": 0, "text": "a"}, {"id": 1}], "edges": [{"source": 0, "target": 1}]})[:4]
    '<svg'
    """
    linked = _node_link(graph)
    if linked is None or not linked["nodes"]:
        return f"<p>a graph ({html.escape(type(graph).__name__)})</p>"
    if _is_tree(linked):
        return draw.tree(linked)
    return _by_forces(linked)


def _node_link(graph: Any) -> dict[str, Any] | None:
    if not isinstance(graph, Mapping):
        if not (hasattr(graph, "adjacency") and hasattr(graph, "nodes")):
            return None
        import networkx as nx

        graph = nx.node_link_data(graph, edges="edges")
    nodes, edges = graph.get("nodes"), graph.get("edges", graph.get("links", []))
    if not isinstance(nodes, list) or not all(isinstance(node, Mapping) and "id" in node for node in nodes):
        return None
    known = {node["id"] for node in nodes}
    kept = [edge for edge in edges if isinstance(edge, Mapping) and {edge.get("source"), edge.get("target")} <= known]
    more = graph.get("graph")
    return {"nodes": nodes, "edges": kept, "graph": dict(more) if isinstance(more, Mapping) else {}}


def _is_tree(graph: Mapping[str, Any]) -> bool:
    """Whether it names its root, and every node but that one has exactly one parent, without a round trip."""
    root = graph["graph"].get("root")
    ids = {node["id"] for node in graph["nodes"]}
    edges = [edge for edge in graph["edges"] if edge.get("type") != "next"]  # order of leaves, not descent
    if root not in ids or len(edges) != len(ids) - 1 or len({edge["target"] for edge in edges}) != len(edges):
        return False
    below: dict[Any, list[Any]] = {}
    for edge in edges:
        below.setdefault(edge["source"], []).append(edge["target"])
    reached, level, depth = {root}, [root], 0
    while level and depth < 200:  # deeper ones would exhaust the stack of who draws them
        level = [child for node in level for child in below.get(node, [])]
        reached.update(level)
        depth += 1
    return len(reached) == len(ids) and not level


def _by_forces(graph: Mapping[str, Any]) -> str:
    """Nodes that are linked draw together, all others apart (Fruchterman and Reingold, by networkx)."""
    try:
        import networkx as nx
    except ImportError:
        return f"<p>a graph of {len(graph['nodes'])} nodes and {len(graph['edges'])} edges</p>"
    kept = [node["id"] for node in graph["nodes"]][:NODES]
    drawn = nx.Graph()
    drawn.add_nodes_from(kept)
    drawn.add_edges_from((e["source"], e["target"]) for e in graph["edges"] if {e["source"], e["target"]} <= set(kept))
    place = nx.spring_layout(drawn, seed=0, iterations=60)
    at = {n: (WIDTH * (0.5 + 0.42 * float(x)), HEIGHT * (0.5 + 0.42 * float(y))) for n, (x, y) in place.items()}
    texts = {node["id"]: str(node.get("text") or node.get("label") or "")[:14] for node in graph["nodes"]}
    lines = "".join(f'<path d="M{at[a][0]:.0f} {at[a][1]:.0f}L{at[b][0]:.0f} {at[b][1]:.0f}"/>' for a, b in drawn.edges)
    dots = "".join(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5"/>' for x, y in at.values())
    names = "".join(
        f'<text x="{x + 7:.0f}" y="{y + 3:.0f}">{html.escape(texts[node])}</text>' for node, (x, y) in at.items()
    )
    count = len(graph["nodes"])
    rest = f"<small>{NODES} of {count} nodes</small>" if count > NODES else ""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'aria-label="a graph of {count} nodes and {len(graph["edges"])} edges">'
        f'<g fill="none" stroke="var(--line)">{lines}</g><g fill="var(--ink)">{dots}</g>'
        f'<g font-size="11" fill="currentColor">{names}</g></svg>{rest}'
    )
