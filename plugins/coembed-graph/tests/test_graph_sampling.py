"""Neighbourhoods of one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest

import coembed
from coembed_graph.sampling import ego, walk

Make = Callable[..., Any]


def test_ego_is_the_ball_around_a_node() -> None:
    graph = nx.karate_club_graph()
    for hops in (0, 1, 2):
        part = ego(graph, 8, hops=hops)
        reference = nx.ego_graph(graph, 8, radius=hops)
        assert set(part) == set(reference) and next(iter(part)) == 8 and part.graph["root"] == 8
        assert set(map(frozenset, part.edges)) == set(map(frozenset, reference.edges))


def test_ego_goes_both_ways_and_keeps_attributes(labelled: Make) -> None:
    graph = nx.DiGraph([("a", "b", {"type": "is"}), ("c", "a", {"type": "has"}), ("d", "d", {})])
    graph.nodes["c"]["text"] = "see"
    part = ego(graph, "a", hops=1)
    assert set(part) == {"a", "b", "c"} and part.is_directed()
    assert part.edges["c", "a"] == {"type": "has"} and part.nodes["c"] == {"text": "see"}
    assert (
        ego(labelled(0), 1, hops=9).number_of_edges() == labelled(0).subgraph(ego(labelled(0), 1, 9)).number_of_edges()
    )


@pytest.mark.parametrize(
    "cut", [lambda g, s: ego(g, 0, 3, most=9, seed=s), lambda g, s: walk(g, 0, 99, most=9, seed=s)]
)
def test_the_seed_decides_and_the_most_holds(cut: Any) -> None:
    graph = nx.random_regular_graph(6, 200, seed=0)
    parts = [cut(graph, seed) for seed in (0, 0, 1)]
    assert list(parts[0]) == list(parts[1]) != list(parts[2])
    assert all(len(part) == 9 and nx.is_connected(part) for part in parts)
    inside = graph.subgraph(parts[0])
    assert set(map(frozenset, parts[0].edges)) == set(map(frozenset, inside.edges))


def test_nearest_nodes_stay() -> None:
    tree = nx.balanced_tree(3, 4)
    distance = nx.single_source_shortest_path_length(tree, 0)
    assert sorted(distance[node] for node in ego(tree, 0, 4, most=6)) == [0, 1, 1, 1, 2, 2]


def test_walk_ends() -> None:
    lonely = nx.empty_graph(2)
    assert list(walk(lonely, 1)) == [1] and list(walk(nx.path_graph(9), 4, restart=1.0)) == [4]
    assert list(walk(nx.path_graph(9), 4, steps=0)) == [4] and len(walk(nx.path_graph(3), 0, 999)) == 3


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda g: ego(g, 99), "99 is not in the graph"),
        (lambda g: ego(g, 0, hops=-1), "hops=-1"),
        (lambda g: ego(g, 0, most=0), "most=0"),
        (lambda g: walk(g, 0, restart=2), "restart=2"),
        (lambda g: walk(g, 0, steps=-1), "steps=-1"),
        (lambda g: ego([(0, 1)], 0), "got list"),
    ],
)
def test_arguments_that_cannot_be(call: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call(nx.path_graph(3))


def test_a_neighbourhood_is_encoded_with_its_root() -> None:
    encoder = coembed.load("graph/gin", dim=16, pooling="mean+root", node="id")
    graph = nx.karate_club_graph()
    assert encoder.encode([ego(graph, 0, 1), walk(graph, 5)]).present.all()
