"""The towers of `coembed-bench binding`: real frozen weights where small ones exist, counts and small networks else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coembed import EncoderSpec, Records, Space, load
from coembed.aligner import Linear
from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.tower import Tower
from coembed_bench.binding_data import SECONDS
from coembed_bench.report import Failed

DIM = 512


class Joined(Encoder):
    """Several encoders side by side: their vectors at unit length, end to end.

    `views` says what of an item each reads (None: the item). The first encoder tells items apart and sizes them.
    """

    def __init__(self, *parts: Encoder, views: Sequence[Callable[[Any], Any]] | None = None) -> None:
        name = f"bench/{'-and-'.join(part.spec.name.rpartition('/')[2] for part in parts)}"
        dim, modality = sum(part.dim for part in parts), parts[0].spec.modality
        super().__init__(EncoderSpec(name=name, modality=modality, dim=dim, target=f"{__name__}:Joined"))
        self.parts = nn.ModuleList(parts)
        self.views = list(views) if views is not None else [_whole] * len(parts)
        self.pooling = nn.Identity()

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Every part's batch, its tensors under the part's number."""
        pairs = zip(self._encoders(), self.views, strict=True)
        batches = [part.collate([view(item) for item in items], prompt) for part, view in pairs]
        return {f"{i}.{key}": tensor for i, batch in enumerate(batches) for key, tensor in batch.items()}

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """[B, 1, sum of widths]."""
        self.check_layer(layer)
        found = []
        for i, part in enumerate(self._encoders()):
            own = {key.partition(".")[2]: tensor for key, tensor in batch.items() if key.startswith(f"{i}.")}
            found.append(part.pooled(part(own)).normalize().vectors)
        return Embedding.from_vectors(torch.cat(found, dim=1))

    def key(self, item: Any) -> bytes:
        """As the first encoder has it."""
        return self._encoders()[0].key(item)

    def size(self, item: Any) -> int:
        """As the first encoder has it."""
        return self._encoders()[0].size(item)

    def _encoders(self) -> list[Encoder]:
        return [part for part in self.parts if isinstance(part, Encoder)]

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """Texts."""
        return ["a text", "another"]


def _whole(item: Any) -> Any:
    return item


def node_words(graph: Mapping[str, Any]) -> str:
    """All words in a graph of node-link JSON, in the order of its nodes.

    >>> node_words({"nodes": [{"id": 0, "text": ""}, {"id": 1, "text": "canine, canid"}]})
    'canine, canid'
    """
    return ", ".join(node["text"] for node in graph["nodes"] if node["text"])


def encoders(sources: Mapping[str, Records]) -> dict[str, Encoder]:
    """The frozen encoders, in common to all seeds. Raises Failed for weights that are not installed.

    Names of proteins are told apart by their words, glosses and search terms by what they mean: the hub reads both.
    How rare words and k-mers are is counted over all items of a set, the collection that is searched; no pair is seen.
    """
    texts = [record["text"] for name, records in sources.items() if name != "triples" for record in records]
    try:
        words = load("text/tfidf", "encoder").fit(texts)
        return {
            "words": words,
            "text": Joined(load("text/minilm", "encoder"), words),
            "graph": Joined(load("graph/wl", "encoder"), words, views=(_whole, node_words)),
            "image": load("image/efficientnet-lite0", "encoder"),
            "protein": load("protein/kmer", "encoder").fit(record["protein"] for record in sources["proteins"]),
            "dna": load("dna/kmer", "encoder", canonical=False).fit(record["dna"] for record in sources["triples"]),
        }
    except (ImportError, ValueError) as error:
        raise Failed(f"{error}; all that this benchmark needs: pip install 'coembed-bench[binding]'") from error


def bind(frozen: Mapping[str, Encoder], seed: int) -> Space:
    """A space over the frozen encoders and a network over sounds that trains whole, with fresh heads.

    Half of the graph tower counts the words in the graph as the hub counts those of a text, and both begin with the
    same head over these counts: what shares words is near from the start, as to the lexical baseline.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        graph, text, words = (frozen[name] for name in ("graph", "text", "words"))
        audio = load("audio/mel", "encoder", dim=96, layers=3, patch=8, window=SECONDS, seed=seed)
        around, meant = Linear(graph.dim, DIM), Linear(text.dim, DIM)
        with torch.no_grad():
            around.map.weight[:, -words.dim :] = meant.map.weight[:, -words.dim :]
        towers = {
            "text": Tower(text, meant),
            "graph": Tower(graph, around),
            "audio": Tower(audio, "linear", dim=DIM, train="all"),
            "image": Tower(frozen["image"], "linear", dim=DIM, options={"standardize": True}),
            "protein": Tower(frozen["protein"], "linear", dim=DIM),
            "dna": Tower(frozen["dna"], "linear", dim=DIM),
        }
        return Space(towers, dim=DIM)


def lexical(frozen: Mapping[str, Encoder]) -> Space:
    """The baseline of graph and text: the words around a synset beside those of its gloss, nothing trained."""
    return Space({"words": frozen["words"], "text": frozen["words"]})
