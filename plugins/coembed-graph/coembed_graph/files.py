"""Graphs in files: node-link JSON, GML, GraphML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import networkx as nx

from coembed_graph.graphs import GraphError

SUFFIXES = (".json", ".gml", ".graphml")


def read_graphs(path: Path) -> list[Any]:
    """The graphs in a file as networkx graphs: several in a JSON list, else one; raises GraphError naming the file."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise GraphError(f"a file of graphs ({', '.join(SUFFIXES)}), not {path.name!r}")
    try:
        if suffix == ".gml":
            return [nx.read_gml(path)]
        if suffix == ".graphml":
            return [nx.read_graphml(path)]
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError, ParseError, RecursionError, nx.NetworkXException) as error:
        raise GraphError(f"a readable {suffix} file: {path} fails ({type(error).__name__}: {error})") from error
    try:
        return [from_node_link(graph) for graph in (data if isinstance(data, list) else [data])]
    except GraphError as error:
        raise GraphError(f"{error} (in {path})") from error


def one_graph(path: Path) -> Any:
    """The only graph of a file; raises GraphError if it holds none or several."""
    graphs = read_graphs(path)
    if len(graphs) != 1:
        raise GraphError(f"a file with one graph: {path} holds {len(graphs)}; read(path) gives them all")
    return graphs[0]


def from_node_link(data: Any) -> Any:
    """A networkx graph of node-link JSON, edges under "edges" or "links"; raises GraphError saying what is wrong.

    A missing "directed" means no, a missing "multigraph" yes, as in networkx; unlike there, an edge to a node that is
    not listed, or an identifier listed twice, is an error.

    >>> from_node_link({"nodes": [{"id": 1}, {"id": 2}], "edges": [{"source": 1, "target": 2}]}).number_of_edges()
    1
    """
    key = "edges" if isinstance(data, Mapping) and "edges" in data else "links"
    try:
        nodes, edges = data["nodes"], data.get(key, [])
        ids = [identifier(node["id"]) for node in nodes]
        ends = [(identifier(edge["source"]), identifier(edge["target"])) for edge in edges]
        known = set(ids)
    except (KeyError, TypeError, AttributeError) as error:
        wanted = 'node-link JSON: {"nodes": [{"id": …}], "edges": [{"source": …, "target": …}]}'
        raise GraphError(f"{wanted} ({type(error).__name__}: {error})") from error
    if len(known) != len(ids):
        twice = next(node for i, node in enumerate(ids) if node in ids[:i])
        raise GraphError(f"identifiers that differ: node {twice!r} is listed twice")
    for u, v in ends:
        if u not in known or v not in known:
            raise GraphError(f"edges between listed nodes: {u!r}-{v!r} is not")
    try:
        return nx.node_link_graph(dict(data) | {key: edges}, edges=key)
    except (KeyError, TypeError, ValueError, AttributeError, nx.NetworkXException) as error:
        raise GraphError(f"node-link JSON as networkx writes it ({type(error).__name__}: {error})") from error


def identifier(value: Any) -> Any:
    """A node's identifier: tuples come as lists from JSON.

    >>> identifier([1, ["a"]])
    (1, ('a',))
    """
    return tuple(identifier(part) for part in value) if isinstance(value, list) else value
