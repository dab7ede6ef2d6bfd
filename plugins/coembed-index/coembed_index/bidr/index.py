"""The index of two grains: product codes in memory find candidates, dense vectors on disk are read for those alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed_index.bebr.codes import pack, unpack
from coembed_index.bidr.fit import ContrastiveCode
from coembed_index.product import looked_up, paired
from coembed_index.scan import Scan

__all__ = ["BiGranular"]


class BiGranular(Scan):
    """A scan of product codes, verified by the dense vectors, which are memory-mapped once saved.

    A code takes `subspaces` bytes a row, half as many with 16 codewords or fewer.

    `model` is one that `fit_contrastive` trained on pairs; without it rows are coded by OPQ when first searched.
    Queries stay floats and are rotated as the codes are. `rescore` times k candidates are read; their score is the
    product of dense vectors plus `sparse_weight` times that of the codes (the published weight is 0.3; it did not help
    where we tried it). `read` counts the dense vectors read. `keep` is that of `Approximate`.
    Source: Xiao et al. 2022, Progressively Optimized Bi-Granular Document Representation (arXiv 2201.05409).

    >>> index = BiGranular(subspaces=1, codewords=2)
    >>> index.add(["x", "y"], Embedding.from_vectors(torch.eye(2)))
    >>> index.search(Embedding.from_vectors(torch.tensor([[0.1, 1.0]])), k=1)[0][0].id
    'y'
    """

    kind = "index/bidr"
    recall = 0.8

    def __init__(
        self,
        model: ContrastiveCode | None = None,
        *,
        subspaces: int = 16,
        codewords: int = 256,
        sparse_weight: float = 0.0,
        keep: str = "float32",
        rescore: int = 10,
    ) -> None:
        super().__init__(keep=keep, rescore=rescore)
        self.subspaces, self.codewords = subspaces, codewords
        if model is not None:
            self.subspaces, self.codewords = model.product.subspaces, model.product.codewords
        self.model, self.given, self.sparse_weight = model, model is not None, sparse_weight

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """A few codewords."""
        return cls(subspaces=8, codewords=16)

    def settings(self) -> dict[str, Any]:
        """The arguments that the index was built with; a model is part of what it learned."""
        own = {"subspaces": self.subspaces, "codewords": self.codewords, "sparse_weight": self.sparse_weight}
        return super().settings() | own

    def train(self, vectors: Tensor) -> None:
        """OPQ, unless a model was given."""
        if not self.given:
            parts = next(m for m in range(min(self.subspaces, vectors.shape[1]), 0, -1) if vectors.shape[1] % m == 0)
            self.model = ContrastiveCode(vectors.shape[1], subspaces=parts, codewords=self.codewords)
            self.model.product.fit(vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-12))

    def encode(self, vectors: Tensor) -> dict[str, Tensor]:
        """Numbers of codewords, and the length of each vector where the model's head does not set it."""
        model = self._ready()
        numbers = model.product.encode(model.document(vectors))
        codes = {"code": pack(numbers, 4) if model.product.codewords <= 16 else numbers}
        return codes if model.out is not None else codes | {"norm": vectors.norm(dim=1)}

    def ask(self, queries: Tensor) -> Tensor:
        """Tables of products with the codewords; of two subspaces each where codes are packed."""
        product = self._ready().product
        tables = product.tables(self._rotated(queries))
        return paired(tables) if product.codewords <= 16 else tables

    def scores(self, asked: Tensor, codes: dict[str, Tensor]) -> Tensor:
        """Products with what the codes stand for."""
        found = looked_up(asked, codes["code"])
        return found * codes["norm"] if "norm" in codes else found

    def rescored(self, q: Embedding, queries: Tensor, rows: Tensor) -> Tensor:
        """Scores of candidates from dense vectors, and from codes if these have a weight."""
        dense = super().rescored(q, queries, rows)
        if not self.sparse_weight:
            return dense
        asked, sparse, start = self._rotated(self.represent_queries(q)), torch.empty(len(rows)), 0
        for part in self.segments():
            here = ((rows >= start) & (rows < start + len(part))).nonzero().flatten()
            inside = rows[here] - start
            found = (asked[queries[here]] * self._decoded(part.codes["code"][inside])).sum(1)
            sparse[here] = found * part.codes["norm"][inside] if "norm" in part.codes else found
            start += len(part)
        return dense + self.sparse_weight * sparse

    def state(self) -> dict[str, Tensor]:
        """Heads, rotation and codebooks."""
        if self.model is None:
            return {}
        net = {f"net.{name}": tensor.detach() for name, tensor in self.model.state_dict().items()}
        return net | {"shape": torch.tensor(self.model.settings()), "given": torch.tensor([self.given])}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take in heads, rotation and codebooks."""
        if "shape" in state:
            dim, out, subspaces, codewords = state["shape"].tolist()
            self.given = bool(state["given"])
            self.model = ContrastiveCode(dim, out=out or None, subspaces=subspaces, codewords=codewords)
            net = {name.removeprefix("net."): tensor for name, tensor in state.items() if name.startswith("net.")}
            self.model.load_state_dict(net)
            self.model.eval()

    def _ready(self) -> ContrastiveCode:
        assert self.model is not None, "prepare() trains it"
        return self.model

    def _rotated(self, queries: Tensor) -> Tensor:
        """Queries in the rotated space of the codes; floats."""
        model = self._ready()
        return model.product.rotated(model.query(queries))

    def _decoded(self, codes: Tensor) -> Tensor:
        product = self._ready().product
        return product.decode(unpack(codes, product.subspaces, 4) if product.codewords <= 16 else codes)
