"""PyG `Data` to a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coembed_graph.graphs import Graph, GraphError, pair_up


def is_data(item: Any) -> bool:
    """Whether an item is a homogeneous or heterogeneous graph of torch_geometric."""
    from torch_geometric.data.data import BaseData  # late: takes a second, and networkx users need none of it

    return isinstance(item, BaseData)


def count_nodes(item: Any) -> int:
    """The number of nodes of a `Data`."""
    return int(item.num_nodes or 0)


def from_data(item: Any, node: str | None, edge: str | None, numbers: int, numeric: str) -> Graph:
    """The graph of a `Data`: `x` of integers are categories, of floats numeric features.

    Strings come from lists under the attributes `node` and `edge`, types of edges also from integers in `edge_type` or
    `edge_attr`. Edges that all have an opposite are undirected. Raises GraphError saying what was expected.
    """
    from torch_geometric.data import Data

    if not isinstance(item, Data):
        raise GraphError(f"a homogeneous Data, not {type(item).__name__}: call to_homogeneous() first")
    count = count_nodes(item)
    ends = _edges(item, count)
    kinds = _kinds(item, edge, len(ends))
    edges, directed = pair_up((u, v, kind) for (u, v), kind in zip(ends, kinds, strict=True))
    root = item.get("root")
    if root is not None:
        root = int(root)
        if not 0 <= root < count:
            raise GraphError(f"a root among the {count} nodes, not {root}")
    rows = _numbers(item, numbers, numeric, count)
    return Graph(tuple(_texts(item, node, count)), edges, directed, rows, root)


def _edges(item: Any, count: int) -> list[tuple[int, int]]:
    index = item.get("edge_index")
    if index is None:
        return []
    if not isinstance(index, Tensor) or index.dim() != 2 or len(index) != 2 or index.is_floating_point():
        raise GraphError("edge_index of shape [2, E] and an integer type")
    if index.numel() and not (0 <= int(index.min()) and int(index.max()) < count):
        raise GraphError(f"edge_index within the {count} nodes, not {int(index.min())}..{int(index.max())}")
    return [(u, v) for u, v in index.t().tolist()]


def _kinds(item: Any, edge: str | None, count: int) -> list[str]:
    if edge is None:
        return [""] * count
    found = next((item.get(name) for name in (edge, "edge_type", "edge_attr") if item.get(name) is not None), None)
    return [""] * count if found is None else _categories(found, count, "edge types")


def _texts(item: Any, node: str | None, count: int) -> list[str]:
    if node is None:
        return [""] * count
    if node == "id":
        return [str(i) for i in range(count)]
    found = item.get(node)
    if found is None and isinstance(item.get("x"), Tensor) and not item.x.is_floating_point():
        found = item.x
    return [""] * count if found is None else _categories(found, count, "node texts")


def _categories(found: Any, count: int, what: str) -> list[str]:
    if isinstance(found, (list, tuple)) and len(found) == count and all(isinstance(text, str) for text in found):
        return list(found)
    if isinstance(found, Tensor) and not found.is_floating_point() and len(found) == count:
        rows = found.reshape(count, -1).tolist()
        # a column has its own categories: a 3 there is not a 3 here
        return [str(row[0]) if len(row) == 1 else " ".join(f"c{i}v{v}" for i, v in enumerate(row)) for row in rows]
    raise GraphError(f"{what} as {count} strings or integers; floating point ones are not categories: bin them first")


def _numbers(item: Any, numbers: int, numeric: str, count: int) -> tuple[tuple[float, ...], ...] | None:
    x = item.get(numeric)
    floating = isinstance(x, Tensor) and x.is_floating_point()
    if not numbers:
        if floating:
            raise GraphError(
                f"no numeric features: {numeric!r} is {list(x.shape)}; build a gin or gps encoder with "
                f"numbers={x.shape[-1]}, or drop them"
            )
        return None
    if not floating or tuple(x.shape) != (count, numbers) or not bool(torch.isfinite(x).all()):
        raise GraphError(f"{numeric!r} as finite floating point numbers of shape [{count}, {numbers}]")
    return tuple(tuple(row) for row in x.tolist())
