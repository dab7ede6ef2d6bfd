"""What the trained graph encoders share: items to a batch, nodes and edges to vectors, blocks, early exits."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.nn import POOLINGS, seeded
from coembed.spec import EncoderSpec
from coembed_graph.batch import EdgeTypes, batch_of, dense
from coembed_graph.files import read_graphs
from coembed_graph.pooling import MeanRoot
from coembed_graph.positions import check_positions
from coembed_graph.reader import Reader, Strings
from coembed_graph.samples import samples
from coembed_graph.smiles import rdkit

_SETTINGS = "graph.json"


class GraphEncoder(Encoder):
    """Nodes as tokens through `layers` blocks; a subclass says in `block` what one is.

    A node starts as the mean of the hashed n-grams of its text, plus its numbers and its place where there are any; an
    edge as the vector of its type and of the way it is read. `pooling` is a name in `coembed.nn.POOLINGS`, or
    "mean+root": the mean beside the root, mapped to `dim` (GraphCLIP's readout), for graphs that name a root. The other
    arguments are described with `Gin`, which takes them all. ValueError names an argument that cannot be.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        dim: int | None = None,
        layers: int | None = None,
        dropout: float = 0.1,
        buckets: int = 8192,
        edge_types: int | Sequence[str] = 64,
        positions: str = "none",
        steps: int = 16,
        pooling: str = "mean",
        node: str | None = "text",
        edge: str | None = "type",
        numbers: int = 0,
        numeric: str = "x",
        strings: Strings = "path",
        most: int = 2048,
        seed: int | None = 0,
    ) -> None:
        if strings == "smiles":
            rdkit()  # an encoder that can read none of its items should not be built
        check_positions(positions, steps)
        super().__init__(spec)
        self.reader = Reader(node, edge, numbers, numeric, strings, most)
        self.dim = dim or spec.dim or 128
        self.layers = layers or spec.layers or 4
        self.buckets, self.positions, self.steps = buckets, positions, steps
        self.edge_types = EdgeTypes(edge_types if isinstance(edge_types, int) else tuple(edge_types))
        if pooling not in (*POOLINGS, "mean+root") or buckets < 1 or self.dim < 1 or self.layers < 1:
            raise ValueError(
                f"{spec.name}: dim={self.dim}, layers={self.layers} and buckets={buckets} must be at least 1, "
                f"pooling={pooling!r} one of {', '.join(POOLINGS)}, mean+root"
            )
        self.rooted = pooling == "mean+root"
        with seeded(seed):
            self.pooling = MeanRoot(self.dim) if self.rooted else POOLINGS[pooling](self.dim)
            self.texts = nn.EmbeddingBag(buckets, self.dim, mode="mean")
            self.kinds = nn.Embedding(2 * self.edge_types.size, self.dim)  # along an edge, and against it
            self.numbers = nn.Linear(numbers, self.dim) if numbers else None
            self.places = nn.Linear(steps, self.dim) if positions != "none" else None
            self.embed_norm, self.norm = nn.LayerNorm(self.dim), nn.LayerNorm(self.dim)
            self.body = nn.ModuleList(self.block(dropout) for _ in range(self.layers))

    @abstractmethod
    def block(self, dropout: float) -> nn.Module:
        """A new layer of width `dim`: nodes [N, D], edges [2, E], their kinds [E, D], `mask` [B, T] to nodes [N, D]."""

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Graphs to one list of nodes and one of edges, as `coembed_graph.batch.batch_of` says; raises BadItem."""
        check_prompt(self.spec.name, prompt)
        graphs = self.reader.all(items)
        return batch_of(
            graphs,
            buckets=self.buckets,
            edge_types=self.edge_types,
            positions=self.positions,
            steps=self.steps,
            rooted=self.rooted,
        )

    def embed(self, batch: Batch) -> Tensor:
        """What nodes start as, [N, D]."""
        x = self.texts(batch["grams"], batch["offsets"])
        for layer, values in ((self.numbers, "numbers"), (self.places, "places")):
            if layer is not None:
                x = x + layer(batch[values].to(layer.weight.dtype))
        normed: Tensor = self.embed_norm(x)
        return normed

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """A batch to node features [B, T, D]; `layer=k` runs blocks 1..k only."""
        self.check_layer(layer)
        x, mask = self.embed(batch), batch["mask"]
        kinds = self.kinds(batch["kinds"])  # [E, D]
        for block in self.body[:layer]:
            x = block(x, batch["edges"], kinds, mask)
        return Embedding(dense(self.norm(x), mask), mask, self.sizes)

    def blocks(self) -> Sequence[nn.Module]:
        """The layers, input side first."""
        return list(self.body)

    def size(self, item: Any) -> int:
        """The number of nodes."""
        return self.reader.size(item)

    def key(self, item: Any) -> bytes:
        """A digest of the graph as it is read, order of nodes and edges included."""
        return self.reader.key(item)

    def read(self, path: Path) -> list[Any]:
        """The graphs in a node-link JSON, GML or GraphML file; raises ValueError for any other."""
        return read_graphs(path)

    def _settings(self) -> dict[str, Any]:
        kinds = self.edge_types.known
        return {
            "reader": asdict(self.reader),
            "edge_types": kinds if isinstance(kinds, int) else list(kinds),
            "positions": self.positions,
            "steps": self.steps,
            "rooted": self.rooted,
        }

    def save_assets(self, folder: Path) -> None:
        """Write graph.json: how items are read, which no weight tells."""
        (folder / _SETTINGS).write_text(json.dumps(self._settings(), indent=1, sort_keys=True), "utf-8")

    def load_assets(self, folder: Path) -> None:
        """Check that items are read as they were when this was saved; raises ValueError naming what differs."""
        path = folder / _SETTINGS
        try:
            saved = dict(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is not what {type(self).__name__} writes: {error!r}") from error
        own = self._settings()
        if different := [name for name in own if saved.get(name) != own[name]]:
            found = ", ".join(f"{name} {saved.get(name)!r} instead of {own[name]!r}" for name in different)
            raise ValueError(f"{path} was saved with {found}: build the encoder with the same arguments")

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """A few graphs that differ in kind: labelled, directed, with several parts, of one node."""
        return samples()

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers of width 32."""
        small = EncoderSpec(**{**_fields(spec), "kwargs": {**spec.kwargs, "dim": 32, "layers": 2, "buckets": 512}})
        return cls(small, **small.kwargs)


def _fields(spec: EncoderSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


def check_prompt(name: str, prompt: str) -> None:
    """Raise ValueError for a prompt: graphs have no text to put it before.

    >>> check_prompt("graph/gin", "")
    """
    if prompt:
        raise ValueError(f"{name}: graphs take no prompt, got {prompt!r}")
