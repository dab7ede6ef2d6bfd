"""Several graphs as one batch of tensors: all nodes in one list, all edges in another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from coembed.items import BadItem
from coembed_graph.graphs import Graph
from coembed_graph.hashing import digest, grams
from coembed_graph.positions import encode_positions


@dataclass(frozen=True)
class EdgeTypes:
    """Types of edges to rows of a table: a number of columns to hash into, or the types that there are.

    Raises ValueError for none at all or one given twice.

    >>> EdgeTypes(("is", "has")).row("has"), 0 <= EdgeTypes(8).row("has") < 8
    (1, True)
    """

    known: int | tuple[str, ...]

    def __post_init__(self) -> None:
        twice = not isinstance(self.known, int) and len(set(self.known)) < len(self.known)
        if self.size < 1 or twice:
            raise ValueError(f"edge_types={self.known!r}: give a number of at least 1, or types that differ")

    @property
    def size(self) -> int:
        """How many rows there are."""
        return self.known if isinstance(self.known, int) else len(self.known)

    def row(self, kind: str) -> int:
        """The row of a type; raises KeyError for one that is not among those given."""
        if isinstance(self.known, int):
            return digest(kind) % self.known
        try:
            return self.known.index(kind)
        except ValueError:
            raise KeyError(kind) from None


def dense(x: Tensor, mask: Tensor) -> Tensor:
    """Nodes `[N, D]` laid out as `[B, T, D]`, zeros where `mask` [B, T] is False; `dense(x, mask)[mask]` is x again.

    >>> dense(torch.ones(3, 1), torch.tensor([[True, False], [True, True]])).squeeze(2).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    out = x.new_zeros(*mask.shape, x.shape[-1])
    out[mask] = x
    return out


def batch_of(
    graphs: Sequence[Graph],
    *,
    buckets: int,
    edge_types: EdgeTypes,
    positions: str = "none",
    steps: int = 1,
    rooted: bool = False,
) -> dict[str, Tensor]:
    """The batch of some graphs; raises BadItem for an edge type that is not known, or a missing root.

    The N nodes of all graphs are in one list, so that a large one pads no small one: `mask` [B, T] says where they lie
    in a dense batch. `grams` [M] and `offsets` [N] are the bags of their texts, `edges` [2, E] sources and targets
    counted in N, `kinds` [E] rows of the table of types, those read backwards in its second half. `numbers` [N, F] and
    `places` [N, steps] are there if asked for. With `rooted` the root is the first node of its graph.

    >>> batch = batch_of([Graph(("a", "b"), ((0, 1, ""),), directed=False)], buckets=9, edge_types=EdgeTypes(4))
    >>> batch["edges"].tolist(), batch["mask"].tolist()
    ([[0, 1], [1, 0]], [[True, True]])
    """
    if rooted:
        graphs = [_with_root(graph, position) for position, graph in enumerate(graphs)]
    bags: list[int] = []
    offsets: list[int] = []
    ends: tuple[list[int], list[int]] = [], []
    kinds: list[int] = []
    start = 0
    for position, graph in enumerate(graphs):
        for text in graph.texts:
            offsets.append(len(bags))
            bags += grams(text, buckets)
        sources, targets, types, against = graph.messages()
        ends[0].extend(start + node for node in sources)
        ends[1].extend(start + node for node in targets)
        rows = _rows(edge_types, set(types), position)
        kinds += [rows[kind] + edge_types.size * back for kind, back in zip(types, against, strict=True)]
        start += len(graph)
    lengths = torch.tensor([len(graph) for graph in graphs], dtype=torch.long)
    batch = {
        "mask": torch.arange(max(map(len, graphs), default=0)) < lengths[:, None],
        "grams": torch.tensor(bags, dtype=torch.long),
        "offsets": torch.tensor(offsets, dtype=torch.long),
        "edges": torch.tensor(ends, dtype=torch.long),
        "kinds": torch.tensor(kinds, dtype=torch.long),
    }
    if graphs and graphs[0].numbers is not None:
        batch["numbers"] = torch.tensor([row for graph in graphs for row in graph.numbers or ()])
    if positions != "none" and graphs:
        batch["places"] = torch.cat([encode_positions(graph, positions, steps) for graph in graphs])
    return batch


def _with_root(graph: Graph, position: int) -> Graph:
    if graph.root is None:
        expected = 'a graph that names its root: graph.graph["root"] = node, or Data.root (pooling="mean+root")'
        raise BadItem(position, f"a graph of {len(graph)} nodes without one", expected)
    return graph.first(graph.root)


def _rows(edge_types: EdgeTypes, types: set[str], position: int) -> dict[str, int]:
    try:
        return {kind: edge_types.row(kind) for kind in types}
    except KeyError as error:
        raise BadItem(position, f"an edge of type {error.args[0]!r}", f"one of {edge_types.known}") from None
