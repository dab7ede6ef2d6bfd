"""Items to graphs: networkx graphs, node-link JSON, PyG data, files, SMILES."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import networkx as nx

from coembed.items import BadItem, content_key, describe
from coembed_graph.data import count_nodes, from_data, is_data
from coembed_graph.files import from_node_link, identifier, one_graph
from coembed_graph.graphs import Graph, GraphError
from coembed_graph.smiles import molecule

Strings = Literal["path", "smiles"]


@dataclass(frozen=True)
class Reader:
    """How items are read: which attributes count, and what a string is.

    `node` names the attribute of a node that is its text ("id": its identifier; None: nodes have no text), `edge` that
    of an edge that is its type (None: all alike), `numbers` the width F of numeric node features (0: none), found in
    the attribute `numeric`. `strings` says what a `str` is: the path of a file, or SMILES. `most` is the largest number
    of nodes. Raises ValueError for a value that cannot be.

    >>> Reader()(nx.path_graph(3)).edges
    ((0, 1, ''), (1, 2, ''))
    """

    node: str | None = "text"
    edge: str | None = "type"
    numbers: int = 0
    numeric: str = "x"
    strings: Strings = "path"
    most: int = 2048

    def __post_init__(self) -> None:
        if self.strings not in get_args(Strings):
            raise ValueError(f"strings={self.strings!r}: choose 'path' or 'smiles'")
        if self.numbers < 0 or self.most < 1:
            raise ValueError(f"numbers={self.numbers} must be at least 0 and most={self.most} at least 1")

    def __call__(self, item: Any) -> Graph:
        """The graph of an item; raises GraphError saying what was expected."""
        if isinstance(item, str) and self.strings == "smiles":
            item = molecule(item)
        if isinstance(item, (str, Path)):
            item = one_graph(Path(item))
        if isinstance(item, Mapping):
            item = from_node_link(item)
        if isinstance(item, nx.Graph):  # its directed and multi kinds are subclasses
            graph = self._from_networkx(item)
        elif is_data(item):
            graph = from_data(item, self.node, self.edge, self.numbers, self.numeric)
        else:
            raise GraphError("a networkx graph, node-link JSON (a dict or the path of a file), or a PyG Data")
        if len(graph) > self.most:
            raise GraphError(
                f"at most {self.most} nodes, not {len(graph)}: cut it with coembed_graph.sampling, or raise most"
            )
        return graph

    def all(self, items: Sequence[Any]) -> list[Graph]:
        """The graphs of several items; raises BadItem naming the position."""
        return [self._at(item, position) for position, item in enumerate(items)]

    def _at(self, item: Any, position: int) -> Graph:
        try:
            return self(item)
        except GraphError as error:
            raise BadItem(position, describe(item), str(error)) from error

    def size(self, item: Any) -> int:
        """The number of nodes of an item."""
        if isinstance(item, nx.Graph):
            return int(item.number_of_nodes())
        if isinstance(item, Mapping):
            return len(item["nodes"])
        return count_nodes(item) if is_data(item) else len(self(item))

    def key(self, item: Any) -> bytes:
        """A digest of what is read from an item: order and all; one that can't be read gets a key of its own."""
        try:
            graph = self(item)
        except GraphError as error:
            return content_key({"no graph": f"{error} {describe(item)}"})
        edges = [part for edge in graph.edges for part in edge]
        return content_key([graph.texts, edges, graph.directed, graph.numbers, graph.root])

    def _from_networkx(self, graph: Any) -> Graph:
        place = {node: i for i, node in enumerate(graph)}
        texts = [self._node_text(node, attributes) for node, attributes in graph.nodes(data=True)]
        edges = [
            (place[u], place[v], word(attributes.get(self.edge), f"edge {u!r}-{v!r}", self.edge) if self.edge else "")
            for u, v, attributes in graph.edges(data=True)
        ]
        numbers = None
        if self.numbers:
            numbers = tuple(self._row(node, attributes) for node, attributes in graph.nodes(data=True))
        root = identifier(graph.graph.get("root"))
        if root is not None and (not isinstance(root, Hashable) or root not in place):
            raise GraphError(f"a root among the nodes: {root!r} is none of them")
        at = None if root is None else place[root]
        return Graph(tuple(texts), tuple(edges), graph.is_directed(), numbers, at)

    def _node_text(self, node: Any, attributes: Mapping[str, Any]) -> str:
        if self.node is None:
            return ""
        return str(node) if self.node == "id" else word(attributes.get(self.node), f"node {node!r}", self.node)

    def _row(self, node: Any, attributes: Mapping[str, Any]) -> tuple[float, ...]:
        try:
            row = tuple(float(value) for value in attributes[self.numeric])
        except (KeyError, TypeError, ValueError):
            row = ()
        if len(row) != self.numbers or not all(map(math.isfinite, row)):
            raise GraphError(f"{self.numbers} finite numbers in attribute {self.numeric!r} of node {node!r}")
        return row


def word(value: Any, where: str, attribute: str) -> str:
    """The text of an attribute: a string, a number, None for none; raises GraphError for anything else.

    >>> word(6, "node 0", "text")
    '6'
    """
    if value is None:
        return ""
    if isinstance(value, (str, int, float)):
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise GraphError(f"valid Unicode in {attribute!r} of {where}: {value!r} has a lone surrogate") from None
        return text
    raise GraphError(f"a string or a number as {attribute!r} of {where}, not {type(value).__name__}")
