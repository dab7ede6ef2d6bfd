"""What every encoder here works on: one plain graph, whatever it came as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

Edge = tuple[int, int, str]


class GraphError(ValueError):
    """A graph that can't be taken; the message says what is wrong with it, where it stands is said by whoever asked."""


@dataclass(frozen=True)
class Graph:
    """Nodes 0..N-1 with a text each, typed edges, and optionally numbers `[N][F]` and a root.

    An edge is (source, target, type), once, in an undirected graph too; parallel edges and self-loops are kept.
    Raises GraphError for a graph without nodes.

    >>> len(Graph(("a", "b"), ((0, 1, ""),), directed=False))
    2
    """

    texts: tuple[str, ...]
    edges: tuple[Edge, ...]
    directed: bool
    numbers: tuple[tuple[float, ...], ...] | None = None
    root: int | None = None

    def __post_init__(self) -> None:
        # no defined vector: all empty graphs would be equal to each other, and neighbours of nothing
        if not self.texts:
            raise GraphError("a graph with at least one node: this one is empty")

    def __len__(self) -> int:
        return len(self.texts)

    def messages(self) -> tuple[list[int], list[int], list[str], list[bool]]:
        """Where messages flow: sources, targets, types, and whether one runs against its edge's direction.

        Both ways along every edge; a self-loop of an undirected graph is one message.

        >>> Graph(("a", "b"), ((0, 1, "is"),), directed=True).messages()
        ([0, 1], [1, 0], ['is', 'is'], [False, True])
        """
        flow = [(u, v, kind, False) for u, v, kind in self.edges]
        flow += [(v, u, kind, self.directed) for u, v, kind in self.edges if self.directed or u != v]
        sources, targets, kinds, against = ([column[i] for column in flow] for i in range(4))
        return sources, targets, kinds, against  # type: ignore[return-value]

    def first(self, node: int) -> Graph:
        """The same graph with a node moved to place 0.

        >>> Graph(("a", "b"), ((0, 1, ""),), directed=True, root=1).first(1).texts
        ('b', 'a')
        """
        order = [node, *(i for i in range(len(self)) if i != node)]
        place = {old: new for new, old in enumerate(order)}
        return Graph(
            tuple(self.texts[i] for i in order),
            tuple((place[u], place[v], kind) for u, v, kind in self.edges),
            self.directed,
            None if self.numbers is None else tuple(self.numbers[i] for i in order),
            None if self.root is None else place[self.root],
        )


def pair_up(edges: Iterable[Edge]) -> tuple[tuple[Edge, ...], bool]:
    """Directed edges as they are, or, where each has its opposite of the same type, once as undirected ones.

    Returns (edges, directed): libraries that know directed edges only store an undirected edge twice.

    >>> pair_up([(0, 1, "x"), (1, 0, "x"), (1, 1, "x")])
    (((0, 1, 'x'), (1, 1, 'x')), False)
    """
    listed = tuple(edges)
    count = Counter(listed)
    if any(count[v, u, kind] != times for (u, v, kind), times in count.items()):
        return listed, True
    return tuple((u, v, kind) for u, v, kind in listed if u <= v), False
