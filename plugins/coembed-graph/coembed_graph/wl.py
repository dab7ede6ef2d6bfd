"""`graph/wl`: the Weisfeiler-Lehman histogram, the baseline that a trained encoder has to beat."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.spec import EncoderSpec
from coembed_graph.base import check_prompt
from coembed_graph.files import read_graphs
from coembed_graph.graphs import Graph
from coembed_graph.hashing import digest
from coembed_graph.reader import Reader
from coembed_graph.samples import samples

_SETTINGS = "wl.json"


class Normalize(nn.Module):
    """Give the one vector of each row unit length."""

    def forward(self, x: Embedding) -> Embedding:
        """[B, 1, D] to [B, 1, D]."""
        return x.normalize()


def refine(graph: Graph, rounds: int) -> list[list[int]]:
    """The colours of the nodes after 0..rounds rounds, the same for isomorphic graphs, on every machine.

    A colour stands for a node's text, then for its own colour and those of its neighbours with the type and direction
    of the edges between. Source: Shervashidze et al. 2011, Weisfeiler-Lehman Graph Kernels, algorithm 1.

    >>> [len(set(colours)) for colours in refine(Graph(("", "", ""), ((0, 1, ""), (1, 2, "")), directed=False), 1)]
    [1, 2]
    """
    sources, targets, kinds, against = graph.messages()
    colours = [digest(text) for text in graph.texts]
    found = [colours]
    for _ in range(rounds):
        around: list[list[tuple[str, bool, int]]] = [[] for _ in colours]
        for u, v, kind, back in zip(sources, targets, kinds, against, strict=True):
            around[v].append((kind, back, colours[u]))
        colours = [digest(repr((colour, sorted(seen)))) for colour, seen in zip(colours, around, strict=True)]
        found.append(colours)
    return found


class WeisfeilerLehman(Encoder):
    """Encode graphs as unit vectors of counts of hashed Weisfeiler-Lehman colours over `rounds` rounds.

    The product of two such vectors is the cosine of the subtree kernel, up to collisions in `dim` columns. `node`,
    `edge` and `most` are as in `coembed_graph.reader.Reader`. Isomorphic graphs have equal vectors.
    ValueError names an argument that cannot be.

    >>> spec = EncoderSpec(name="graph/wl", modality="graph", dim=64, target="coembed_graph.wl:WeisfeilerLehman")
    >>> WeisfeilerLehman(spec).encode(samples()).values.shape
    torch.Size([5, 1, 64])
    """

    weights: Tensor

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        dim: int | None = None,
        rounds: int = 3,
        node: str | None = "text",
        edge: str | None = "type",
        most: int = 100_000,
    ) -> None:
        super().__init__(spec)
        self.dim = dim or spec.dim or 2048
        if self.dim < 1 or rounds < 0:
            raise ValueError(f"{spec.name}: dim={self.dim} must be at least 1, rounds={rounds} at least 0")
        self.reader, self.rounds = Reader(node, edge, most=most), rounds
        self.register_buffer("weights", torch.ones(rounds + 1))  # what a count of each round is worth
        self.pooling = Normalize()

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Graphs to the `columns`, `rounds` and `counts` of their colours, [B, T] each, padded with count 0."""
        check_prompt(self.spec.name, prompt)
        rows = [self._counts(graph) for graph in self.reader.all(items)]
        longest = max(map(len, rows), default=0)
        padded = [[*row, *[(0, 0, 0)] * (longest - len(row))] for row in rows]
        table = torch.tensor(padded, dtype=torch.long).reshape(len(rows), longest, 3)
        return {"columns": table[..., 0], "rounds": table[..., 1], "counts": table[..., 2]}

    def _counts(self, graph: Graph) -> list[tuple[int, int, int]]:
        """In order, so that sums of isomorphic graphs round alike."""
        found = Counter(
            (colour % self.dim, i) for i, colours in enumerate(refine(graph, self.rounds)) for colour in colours
        )
        return sorted((column, i, count) for (column, i), count in found.items())

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """The histogram [B, 1, D]: a graph is one vector, not one a node."""
        self.check_layer(layer)
        values = self.weights.new_zeros(len(batch["columns"]), self.dim)
        values.scatter_add_(1, batch["columns"], batch["counts"].to(values.dtype) * self.weights[batch["rounds"]])
        return Embedding.from_vectors(values, self.sizes)

    def size(self, item: Any) -> int:
        """The number of nodes."""
        return self.reader.size(item)

    def key(self, item: Any) -> bytes:
        """A digest of the graph as it is read, order of nodes and edges included."""
        return self.reader.key(item)

    def read(self, path: Path) -> list[Any]:
        """The graphs in a node-link JSON, GML or GraphML file; raises ValueError for any other."""
        return read_graphs(path)

    def save_assets(self, folder: Path) -> None:
        """Write wl.json: what is read and counted, which no weight tells."""
        settings = {"reader": asdict(self.reader), "dim": self.dim, "rounds": self.rounds}
        (folder / _SETTINGS).write_text(json.dumps(settings, indent=1), "utf-8")

    def load_assets(self, folder: Path) -> None:
        """Read what `save_assets` wrote, whatever this one counted before."""
        path = folder / _SETTINGS
        try:
            saved = json.loads(path.read_text("utf-8"))
            self.reader = replace(self.reader, **saved["reader"])
            self.dim, self.rounds = int(saved["dim"]), int(saved["rounds"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not what {type(self).__name__} writes: {error!r}") from error
        self.weights = self.weights.new_ones(self.rounds + 1)

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """A few graphs that differ in kind."""
        return samples()

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """As it is: there is nothing to make small."""
        return cls(spec, **spec.kwargs)
