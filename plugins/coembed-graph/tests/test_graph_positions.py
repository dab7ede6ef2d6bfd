"""Positional encodings are what their formulas say, and know no names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import coembed
from coembed_graph.positions import laplacian, rwpe
from coembed_graph.reader import Reader

Make = Callable[..., Any]

READ = Reader()


@pytest.mark.parametrize("kind", [nx.Graph, nx.MultiGraph])
def test_rwpe_is_the_diagonal_of_powers(kind: type, labelled: Make) -> None:
    graph = labelled(3, kind)
    a = nx.to_numpy_array(graph, weight=None, multigraph_weight=sum)
    degree = a.sum(1, keepdims=True)
    p = np.divide(a, degree, out=np.zeros_like(a), where=degree > 0)
    expected = np.stack([np.diag(np.linalg.matrix_power(p, k)) for k in range(1, 9)], 1)
    found = rwpe(READ(graph), 8).numpy()
    assert np.allclose(found, expected, atol=1e-6) and found.max() <= 1


def test_rwpe_agrees_with_torch_geometric_on_simple_graphs() -> None:
    from torch_geometric.transforms import AddRandomWalkPE
    from torch_geometric.utils import from_networkx

    graph = nx.karate_club_graph()
    reference = AddRandomWalkPE(12)(from_networkx(nx.Graph(graph.edges()))).random_walk_pe
    assert torch.allclose(rwpe(READ(nx.Graph(graph.edges())), 12), reference, atol=1e-5)


def test_rwpe_goes_on_past_the_size_of_the_graph() -> None:
    assert rwpe(READ(nx.path_graph(2)), 5).tolist() == [[0, 1, 0, 1, 0]] * 2
    assert rwpe(READ(nx.empty_graph(1)), 3).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("graph", [nx.cycle_graph(8), nx.petersen_graph(), nx.star_graph(6)])
def test_laplacian_encodings_know_no_sign_and_no_basis(graph: nx.Graph, renamed: Make) -> None:
    copy = renamed(graph)
    a, b = laplacian(READ(graph), 10), laplacian(READ(copy), 10)
    rows = [sorted(map(tuple, x.mul(1e4).round().tolist())) for x in (a, b)]
    assert rows[0] == rows[1]
    if nx.is_regular(graph):  # vertex-transitive: every node lies alike
        assert torch.allclose(a, a[:1].expand_as(a), atol=1e-6)


def test_laplacian_shares_add_up_to_one() -> None:
    graph = nx.karate_club_graph()
    assert torch.allclose(laplacian(READ(graph), 34).sum(1), torch.ones(34), atol=1e-6)


def test_arguments_that_cannot_be() -> None:
    for arguments in ({"positions": "sines"}, {"steps": 0}):
        with pytest.raises(ValueError, match="choose rwpe, laplacian or none"):
            coembed.load("graph/gps", **arguments)
