"""Positional encodings: where a node lies in its graph, whatever the nodes are called."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from coembed_graph.graphs import Graph

Positions = Literal["rwpe", "laplacian", "none"]

#: Eigenvalues closer than this are one: they lie in [0, 2] and are computed in 64 bits.
_EQUAL = 1e-6


def check_positions(positions: str, steps: int) -> None:
    """Raise ValueError for an unknown kind, or fewer than one step."""
    if positions not in get_args(Positions) or steps < 1:
        raise ValueError(f"positions={positions!r} with steps={steps}: choose rwpe, laplacian or none, and steps >= 1")


def adjacency(graph: Graph) -> Tensor:
    """How many edges join two nodes, either way: symmetric `[N, N]` in 64 bits; a self-loop counts once.

    >>> adjacency(Graph(("", ""), ((0, 1, ""), (1, 1, "")), directed=True)).tolist()
    [[0.0, 1.0], [1.0, 1.0]]
    """
    matrix = torch.zeros(len(graph), len(graph), dtype=torch.float64)
    if graph.edges:
        u, v = torch.tensor([edge[:2] for edge in graph.edges]).t()
        one = torch.ones(len(u), dtype=torch.float64)
        matrix.index_put_((u, v), one, accumulate=True)
        matrix.index_put_((v, u), one * (u != v), accumulate=True)
    return matrix


def rwpe(graph: Graph, steps: int) -> Tensor:
    """The chance that a random walk is back after 1..steps steps: diag(P^k) as `[N, steps]`, P = D^-1 A.

    A node without edges has zeros. Own code, since PyG's transform counts parallel edges once in A but not in D.
    Source: Dwivedi et al. 2022, Graph Neural Networks with Learnable Structural and Positional Representations, eq. 12.

    >>> rwpe(Graph(("", ""), ((0, 1, ""),), directed=False), 3).tolist()
    [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    """
    a = adjacency(graph)
    walk = a / a.sum(1, keepdim=True).clamp_min(1)
    power, columns = walk, [walk.diagonal()]
    for _ in range(steps - 1):
        power = power @ walk
        columns.append(power.diagonal())
    return torch.stack(columns, 1).float()


def laplacian(graph: Graph, steps: int) -> Tensor:
    """The share of a node in each of the smoothest harmonics of its graph: `[N, steps]`.

    Column k: the squared entries of the eigenvectors of I - D^-1/2 A D^-1/2 that belong to its k-th smallest distinct
    eigenvalue, summed over them. Neither the sign of an eigenvector nor the basis of a repeated eigenvalue shows, both
    of which a solver chooses at will. A reconstruction of the encodings of Dwivedi and Bresson 2021 with that mended.

    >>> laplacian(Graph(("", ""), ((0, 1, ""),), directed=False), 3).tolist()
    [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]
    """
    a = adjacency(graph)
    scale = a.sum(1).clamp_min(1).rsqrt()
    values, vectors = torch.linalg.eigh(torch.eye(len(graph), dtype=a.dtype) - scale[:, None] * a * scale)
    harmonic = torch.zeros(len(values), dtype=torch.long)
    harmonic[1:] = (values.diff() > _EQUAL).cumsum(0)
    shares = a.new_zeros(len(graph), max(steps, int(harmonic[-1]) + 1)).index_add(1, harmonic, vectors**2)
    return shares[:, :steps].round(decimals=9).float()  # what differs below that is the solver's


def encode_positions(graph: Graph, positions: str, steps: int) -> Tensor:
    """The encodings of a kind, `[N, steps]`."""
    return rwpe(graph, steps) if positions == "rwpe" else laplacian(graph, steps)
