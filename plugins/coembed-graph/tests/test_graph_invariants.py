"""What must not change an embedding does not, and what must, does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch

import coembed

Make = Callable[..., Any]

KINDS = [nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph]


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_order_of_nodes_do_not_matter(encoder: Any, kind: type, labelled: Make, renamed: Make) -> None:
    graphs = [labelled(seed, kind) for seed in range(4)]
    copies = [renamed(graph, seed) for seed, graph in enumerate(graphs)]
    a, b = encoder.encode(graphs).vectors, encoder.encode(copies).vectors
    assert torch.allclose(a, b, atol=1e-5)
    assert torch.cdist(a, a).fill_diagonal_(9).min() > 1e-3  # the four graphs do differ


@pytest.mark.parametrize("kind", KINDS)
def test_isomorphic_graphs_are_equal_under_wl(kind: type, labelled: Make, renamed: Make) -> None:
    encoder = coembed.load("graph/wl")
    for seed in range(5):
        graph = labelled(seed, kind)
        a, b = encoder.encode([graph, renamed(graph, seed)]).vectors
        assert torch.equal(a, b)


def test_wl_counts_subtrees() -> None:
    encoder = coembed.load("graph/wl", rounds=1, dim=1 << 16)
    x, y = encoder.encode([nx.path_graph(3), nx.path_graph(4)]).vectors
    # colours of the path of 3: 3 blank; 2 ends, 1 inner. Of 4: 4 blank; 2 ends, 2 inner.
    expected = (3 * 4 + 2 * 2 + 1 * 2) / ((9 + 4 + 1) * (16 + 4 + 4)) ** 0.5
    assert float(x @ y) == pytest.approx(expected, abs=1e-6)


def test_wl_is_the_same_on_every_machine() -> None:
    encoder = coembed.load("graph/wl", dim=16, rounds=2)
    graph = nx.DiGraph([("a", "b", {"type": "is"})])
    assert encoder.collate([graph])["columns"].tolist() == [[3, 4, 4, 9, 10]]


@pytest.mark.parametrize("name", ["graph/gin", "graph/gps", "graph/wl"])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (nx.DiGraph([(0, 1), (0, 2)]), nx.DiGraph([(1, 0), (2, 0)])),  # direction
        (nx.Graph([(0, 1, {"type": "is"})]), nx.Graph([(0, 1, {"type": "has"})])),  # type
        (nx.MultiGraph([(0, 1), (0, 1)]), nx.MultiGraph([(0, 1)])),  # parallel edges
        (nx.Graph([(0, 1), (1, 1)]), nx.Graph([(0, 1)])),  # self-loop
        (nx.Graph([(0, 1)]), nx.DiGraph([(0, 1)])),  # directedness
        (nx.path_graph(4), nx.star_graph(3)),  # structure
    ],
    ids=["direction", "type", "parallel", "loop", "directed", "structure"],
)
def test_what_differs_is_seen(name: str, a: Any, b: Any) -> None:
    x, y = coembed.load(name).encode([a, b]).vectors
    assert (x - y).abs().max() > 1e-3


def test_random_walks_see_what_messages_cannot() -> None:
    ring, triangles = nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
    for name, told in (("graph/wl", False), ("graph/gin", False), ("graph/gps", True)):
        x, y = coembed.load(name).encode([ring, triangles]).vectors
        assert bool((x - y).abs().max() > 1e-4) is told, name


def test_odd_graphs_are_the_same_alone_and_in_a_batch(encoder: Any, labelled: Make) -> None:
    single, loop, lonely, large = nx.Graph(), nx.Graph(), nx.Graph(), labelled(5, nx.Graph, 40)
    single.add_node(0)
    loop.add_edge("me", "me")
    lonely.add_nodes_from(range(5))
    graphs = [single, loop, lonely, large, nx.disjoint_union(nx.path_graph(3), nx.cycle_graph(4))]
    for graph in graphs:
        graph.graph["root"] = next(iter(graph))
    together = encoder.encode(graphs).vectors
    for graph, row in zip(graphs, together, strict=True):
        assert row.isfinite().all()
        assert torch.allclose(encoder.encode([graph]).vectors[0], row, atol=1e-5)


def test_tokens_are_the_nodes_in_order(labelled: Make) -> None:
    encoder = coembed.load("graph/gps", dim=32).eval()
    graph = labelled(2)
    order = list(reversed(list(graph)))
    turned = nx.MultiDiGraph()
    turned.add_nodes_from((node, graph.nodes[node]) for node in order)
    turned.add_edges_from(graph.edges(data=True))
    with torch.no_grad():
        a, b = (encoder(encoder.collate([g])) for g in (graph, turned))
    assert a.values.shape == (1, len(graph), 32) and bool(a.mask.all())
    assert torch.allclose(a.values, b.values.flip(1), atol=1e-5)


def test_a_root_is_read_out() -> None:
    encoder = coembed.load("graph/gin", dim=32, pooling="mean+root").eval()
    graph = nx.path_graph(4)
    rows = []
    for root in (0, 1, 3):
        graph.graph["root"] = root
        rows.append(encoder.encode([graph]).vectors[0])
    assert torch.allclose(rows[0], rows[2], atol=1e-5) and not torch.allclose(rows[0], rows[1], atol=1e-3)
    del graph.graph["root"]
    with pytest.raises(coembed.BadItem, match="names its root"):
        encoder.encode([graph])


@pytest.mark.parametrize("name", ["graph/gin", "graph/gps"])
def test_early_exit_runs_no_more_blocks(name: str, labelled: Make) -> None:
    encoder = coembed.load(name, dim=32, layers=4).eval()
    ran: list[int] = []
    for i, block in enumerate(encoder.blocks()):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    whole = encoder.encode([labelled()]).vectors
    for layer in (1, 2, 3, 4):
        ran.clear()
        out = encoder.encode([labelled()], layer=layer).vectors
        assert ran == list(range(layer)) and torch.equal(out, whole) is (layer == 4)


def test_a_node_hears_as_far_as_there_are_layers() -> None:
    encoder = coembed.load("graph/gin", dim=32, layers=3).eval()
    near, far = nx.path_graph(6), nx.path_graph(6)
    far.nodes[5]["text"] = "changed"
    with torch.no_grad():
        a, b = (encoder(encoder.collate([g])).values[0] for g in (near, far))
    moved = (a - b).abs().amax(1) > 1e-6
    assert moved.tolist() == [False, False, True, True, True, True]


def test_gin_learns_to_tell_trees_from_graphs_with_a_cycle() -> None:
    encoder = coembed.load("graph/gin", dim=32, layers=3, dropout=0.0)
    graphs = [nx.random_labeled_tree(n, seed=n) for n in range(4, 20)]
    graphs += [nx.cycle_graph(n) for n in range(4, 20)]
    truth = torch.tensor([0.0] * 16 + [1.0] * 16)
    torch.manual_seed(0)
    head = torch.nn.Linear(32, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    train, held = slice(0, None, 2), slice(1, None, 2)
    for _ in range(80):
        optimizer.zero_grad()
        scores = head(encoder.pooling(encoder(encoder.collate(graphs[train]))).vectors).squeeze(1)
        torch.nn.functional.binary_cross_entropy_with_logits(scores, truth[train]).backward()
        optimizer.step()
    with torch.no_grad():
        found = head(encoder.encode(graphs[held]).vectors.clone()).squeeze(1) > 0
    assert (found == truth[held].bool()).float().mean() >= 0.9
