"""Every form a graph comes in gives the same graph; what is none is refused by name and position."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch
from torch_geometric.data import Data, HeteroData
from torch_geometric.utils import from_networkx

import coembed
from coembed import BadItem
from coembed_graph.reader import Reader

Make = Callable[..., Any]

KINDS = [nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph]


@pytest.fixture(scope="module")
def gin() -> Any:
    return coembed.load("graph/gin", dim=32, layers=2).eval()


@pytest.mark.parametrize("key", ["edges", "links"])
@pytest.mark.parametrize("kind", KINDS)
def test_node_link_json_is_the_graph(gin: Any, kind: type, key: str, tmp_path: Path, labelled: Make) -> None:
    graph = labelled(1, kind)
    data = nx.node_link_data(graph, edges=key)
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(data), "utf-8")
    rows = gin.encode([graph, data, path, str(path), *gin.read(path)]).vectors
    assert torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-6)
    assert len({gin.key(item) for item in (graph, data, path)}) == 1


def test_identifiers_that_are_tuples_survive_json() -> None:
    grid = nx.grid_2d_graph(2, 2)
    grid.graph["root"] = (1, 1)
    assert Reader()(json.loads(json.dumps(nx.node_link_data(grid)))) == Reader()(grid)
    assert Reader()(grid).root == 3


@pytest.mark.parametrize("kind", KINDS)
def test_pyg_data_is_the_graph(gin: Any, kind: type, labelled: Make) -> None:
    graph = labelled(1, kind)
    graph.graph.pop("root")
    for _, _, attributes in graph.edges(data=True):
        attributes.setdefault("type", "is")
    a, b = gin.encode([graph, from_networkx(graph)]).vectors
    assert torch.allclose(a, b, atol=1e-5)


def test_pyg_categories_are_those_of_networkx(gin: Any) -> None:
    graph = nx.DiGraph([(0, 1, {"type": 7})])
    nx.set_node_attributes(graph, {0: 3, 1: 5}, "text")
    ends = torch.tensor([[0], [1]])
    column = Data(x=torch.tensor([[3], [5]]), edge_index=ends, edge_attr=torch.tensor([[7]]))
    flat = Data(x=torch.tensor([3, 5]), edge_index=ends, edge_type=torch.tensor([7]))
    rows = gin.encode([graph, column, flat]).vectors
    assert torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-6)
    two = [Data(x=torch.tensor(x), edge_index=ends) for x in ([[1, 2], [0, 0]], [[2, 1], [0, 0]])]
    x, y = gin.encode(two).vectors
    assert not torch.allclose(x, y, atol=1e-4)  # a 1 in the first column is not one in the second


def test_numbers_of_nodes_count() -> None:
    encoder = coembed.load("graph/gps", dim=32, layers=2, numbers=2).eval()
    graph = nx.path_graph(2)
    nx.set_node_attributes(graph, {0: [0.5, 1.0], 1: [2.0, 3.0]}, "x")
    ends = torch.tensor([[0, 1], [1, 0]])
    same = Data(x=torch.tensor([[0.5, 1.0], [2.0, 3.0]]), edge_index=ends)
    other = Data(x=torch.tensor([[0.5, 1.0], [2.0, 3.5]]), edge_index=ends)
    a, b, c = encoder.encode([graph, same, other]).vectors
    assert torch.allclose(a, b, atol=1e-6) and not torch.allclose(a, c, atol=1e-4)
    for bad in ([0.5], ["a", "b"], [float("nan"), 1.0], None):
        graph.nodes[1]["x"] = bad
        with pytest.raises(BadItem, match=r"item 1: .*2 finite numbers in attribute 'x' of node 1"):
            encoder.encode([same, graph])


@pytest.mark.parametrize("suffix", [".gml", ".graphml"])
def test_other_files_by_networkx(gin: Any, suffix: str, tmp_path: Path, labelled: Make) -> None:
    graph = nx.relabel_nodes(labelled(2, nx.DiGraph), str)
    graph.graph.clear()
    path = tmp_path / f"graph{suffix}"
    (nx.write_gml if suffix == ".gml" else nx.write_graphml)(graph, path)
    (read,) = gin.read(path)
    rows = gin.encode([graph, read, path]).vectors
    assert torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-6)


def test_a_file_of_several_graphs_is_read_whole(gin: Any, tmp_path: Path) -> None:
    path = tmp_path / "graphs.json"
    path.write_text(json.dumps([nx.node_link_data(nx.path_graph(n)) for n in (2, 3)]), "utf-8")
    assert [len(graph) for graph in gin.read(path)] == [2, 3]
    with pytest.raises(BadItem, match="holds 2"):
        gin.encode([path])


def test_keys_follow_content(gin: Any) -> None:
    a, b, c = nx.path_graph(3), nx.path_graph(3), nx.path_graph(3)
    c.nodes[0]["text"] = "other"
    assert gin.key(a) == gin.key(b) != gin.key(c)
    turned = nx.Graph()
    turned.add_nodes_from([2, 1, (0, {"text": "other"})])
    turned.add_edges_from([(0, 1), (1, 2)])
    assert gin.key(turned) != gin.key(c)  # tokens come in another order
    assert gin.key(a).hex() == "a6231625f9537bf21d565cf8d8b365ab"  # on every machine


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (nx.Graph(), "at least one node"),
        ({"nodes": [], "edges": []}, "at least one node"),
        (Data(edge_index=torch.zeros(2, 0, dtype=torch.long), num_nodes=0), "at least one node"),
        ({"edges": []}, "node-link JSON"),
        ({"nodes": [{"name": 1}]}, "node-link JSON"),
        ({"nodes": [{"id": 1}], "edges": [{"source": 1}]}, "node-link JSON"),
        ({"nodes": [{"id": 1}], "edges": [{"source": 1, "target": 2}]}, "1-2 is not"),
        ({"nodes": [{"id": 1}, {"id": 1}]}, "1 is listed twice"),
        ({"nodes": [{"id": {}}]}, "node-link JSON"),
        ({"nodes": 3}, "node-link JSON"),
        ({"nodes": [{"id": 1}], "graph": {"root": 2}}, "2 is none of them"),
        ({"nodes": [{"id": 1}], "graph": {"root": {}}}, "is none of them"),
        ({"nodes": [{"id": 1, "text": ["a"]}]}, "a string or a number as 'text' of node 1, not list"),
        ({"nodes": [{"id": 1, "text": "\ud800"}]}, "lone surrogate"),
        (nx.Graph([(0, 1, {"type": {}})]), "as 'type' of edge 0-1, not dict"),
        (HeteroData(), "to_homogeneous"),
        (Data(x=torch.rand(2, 3), edge_index=torch.tensor([[0], [1]])), "numbers=3"),
        (Data(edge_index=torch.tensor([[0], [9]]), num_nodes=2), "within the 2 nodes"),
        (Data(edge_index=torch.rand(2, 2), num_nodes=2), r"shape \[2, E\]"),
        (Data(edge_index=torch.tensor([[0], [1]]), edge_attr=torch.rand(1), num_nodes=2), "bin them"),
        ("no such file.json", "no such file.json fails"),
        ("graph.txt", "a file of graphs"),
        (nx.path_graph(2049), "at most 2048 nodes, not 2049"),
        ([(0, 1)], "a networkx graph"),
    ],
)
def test_bad_items_are_named(gin: Any, item: Any, said: str) -> None:
    seen: list[BadItem] = []
    out = gin.encode([nx.path_graph(2), item], on_error=seen.append)
    assert [error.position for error in seen] == [1] and out.present.tolist() == [True, False]
    with pytest.raises(BadItem, match=said):
        gin.encode([nx.path_graph(2), item])
    gin.key(item)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", "7"),
        ("a.json", '[{"nodes": [{}]}]'),
        ("a.gml", "graph ["),
        ("a.graphml", "<graphml"),
        ("a.json", "\x00"),
        ("a.csv", "a,b"),
    ],
)
def test_broken_files_are_refused_by_name(gin: Any, name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"a\.(json|gml|graphml|csv)"):
        gin.read(tmp_path / name)


def test_given_edge_types_are_the_only_ones() -> None:
    encoder = coembed.load("graph/gin", dim=32, edge_types=["is", "has"]).eval()
    good, bad = nx.Graph([(0, 1, {"type": "has"})]), nx.Graph([(0, 1, {"type": "eats"})])
    assert encoder.kinds.num_embeddings == 4
    with pytest.raises(BadItem, match=r"item 1: got an edge of type 'eats', expected one of \('is', 'has'\)"):
        encoder.encode([good, bad])


def test_attributes_are_chosen_by_name() -> None:
    graph = nx.Graph([("ada", "bo", {"how": "friend"})])
    nx.set_node_attributes(graph, {"ada": "x", "bo": "y"}, "label")
    assert Reader(node="label", edge="how")(graph).texts == ("x", "y")
    assert Reader(node="id", edge="how")(graph).edges == ((0, 1, "friend"),)
    assert Reader(node="id")(graph).texts == ("ada", "bo") and Reader(node=None)(graph).texts == ("", "")


@pytest.mark.parametrize(
    "arguments",
    [{"pooling": "sum"}, {"buckets": 0}, {"edge_types": []}, {"edge_types": ["a", "a"]}, {"numbers": -1}, {"most": 0}],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        coembed.load("graph/gin", **arguments)


def test_another_reading_is_another_encoder(tmp_path: Path) -> None:
    a, b = coembed.load("graph/gin", dim=16), coembed.load("graph/gin", dim=16, node="label")
    assert a.fingerprint() != b.fingerprint()
    a.save(tmp_path)
    with pytest.raises(ValueError, match="'label'"):
        b.restore(tmp_path)


def test_prompts_are_refused(gin: Any) -> None:
    with pytest.raises(ValueError, match="no prompt"):
        gin.encode([nx.path_graph(2)], prompt="a graph of ")
