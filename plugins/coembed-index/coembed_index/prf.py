"""Pseudo-relevance feedback for multi-vectors: rare directions of the first hits' tokens join the query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.index import Exact, Hit, Index, Stored, Where
from coembed_index.kmeans import assign, kmeans

__all__ = ["PRF", "Feedback", "Tokens", "expand", "feedback_search", "weigh"]

_SAMPLE = 1 << 15  # token vectors that a codebook is made from at most


@dataclass(frozen=True)
class PRF:
    """How queries grow: by `fb_embs` of `k` centroids of the first `fb_docs` hits' tokens, times `beta` and rarity.

    `mode` "ranker" searches everything again, "reranker" only orders the first `depth` hits anew. `nearest` tokens of
    the index say which token a centroid stands for. Raises ValueError for values out of range, and unless k is at
    least fb_embs.

    >>> PRF(beta=1.0).fb_embs
    10
    """

    fb_docs: int = 3
    k: int = 24
    fb_embs: int = 10
    beta: float = 0.5
    mode: Literal["ranker", "reranker"] = "ranker"
    depth: int = 1000
    nearest: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("ranker", "reranker"):
            raise ValueError(f"PRF: mode {self.mode!r}: choose 'ranker' or 'reranker'")
        if min(self.fb_docs, self.k, self.depth, self.nearest) < 1 or self.fb_embs < 0 or self.beta < 0:
            raise ValueError(f"PRF: {self}: counts must be at least 1, fb_embs and beta at least 0")
        if self.k < self.fb_embs:
            raise ValueError(f"PRF: k {self.k} centroids are fewer than the fb_embs {self.fb_embs} to choose from them")


@dataclass(frozen=True)
class Tokens:
    """All token vectors of an index `[T, D]`, which token each is `[T]`, and in how many of `rows` rows each occurs.

    >>> tokens = Tokens.named(torch.eye(3), torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), rows=2)
    >>> tokens.document_frequency.tolist()
    [1, 2]
    """

    vectors: Tensor
    ids: Tensor
    document_frequency: Tensor
    rows: int

    @classmethod
    def named(cls, vectors: Tensor, ids: Tensor, row: Tensor, rows: int) -> Tokens:
        """From each vector's token `[T]` and the row that it belongs to `[T]`; raises ValueError for other lengths."""
        if not len(vectors) == len(ids) == len(row):
            raise ValueError(f"{len(vectors)} token vectors, but {len(ids)} ids and {len(row)} rows")
        seen = torch.unique(torch.stack([ids, row]), dim=1)[0]  # a token counts once a row
        return cls(vectors, ids, torch.bincount(seen, minlength=int(ids.max()) + 1 if len(ids) else 1), rows)

    @classmethod
    def of(
        cls, index: Stored, ids: Mapping[str, Sequence[int]] | None = None, *, codebook: int = 1024, seed: int = 0
    ) -> Tokens:
        """The tokens of an index: `ids` by row where an encoder's are known, else cells of a codebook of their vectors.

        The codebook is k-means of the index's own token vectors, so a "token" is then a neighbourhood in which they
        lie. Raises ValueError naming a row whose ids are missing or of another number than its vectors.
        """
        vectors: list[Tensor] = []
        rows: list[Tensor] = []
        names: list[str] = []
        for part in index.segments():
            kept = part.kept()
            vectors.append(part.floats(part.at(kept)))
            lengths = torch.ones(len(kept), dtype=torch.long) if part.lengths is None else part.lengths[kept]
            rows.append(torch.arange(len(names), len(names) + len(kept)).repeat_interleave(lengths))
            names += [part.rows.id(number) for number in kept.tolist()]
        every = torch.cat(vectors) if vectors else torch.zeros(0, index.dim or 1)
        row = torch.cat(rows) if rows else torch.zeros(0, dtype=torch.long)
        if ids is not None:
            counts = torch.bincount(row, minlength=len(names)).tolist()
            for name, count in zip(names, counts, strict=True):
                if len(ids.get(name, ())) != count:
                    raise ValueError(f"row {name!r} has {count} token vectors, but {len(ids.get(name, ()))} token ids")
            return cls.named(every, torch.tensor([i for name in names for i in ids[name]]), row, len(names))
        if not len(every):
            return cls.named(every, row, row, 0)
        draw = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))[:_SAMPLE]
        centres = kmeans(every[draw][None], min(codebook, len(draw)), seed=seed)
        return cls.named(every, assign(every[None], centres)[0][0], row, len(names))

    def idf(self, x: Tensor, nearest: int) -> Tensor:
        """log((N + 1) / (df + 1)) `[K]` of the token that most of the `nearest` token vectors of each of `x` are."""
        found = self.ids[(x @ self.vectors.T).topk(min(nearest, len(self.vectors)), dim=1).indices]  # [K, r]
        df = self.document_frequency[found.mode(dim=1).values]
        return torch.log((self.rows + 1) / (df + 1.0))


def weigh(feedback: Tensor, tokens: Tokens, prf: PRF) -> tuple[Tensor, Tensor]:
    """Centroids of feedback tokens `[n, D]` and how rare each is, rarest first: `[K, D]`, `[K]`; K = n if n is less.

    They are not brought to unit length.
    Source: Wang et al. 2021, ColBERT-PRF (arXiv 2106.11251), section 3.2.
    """
    centres = kmeans(feedback[None], min(prf.k, len(feedback)), seed=prf.seed)[0]
    idf = tokens.idf(centres, prf.nearest)
    order = idf.argsort(descending=True, stable=True)
    return centres[order], idf[order]


def expand(q: Embedding, centres: Tensor, weights: Tensor) -> Embedding:
    """One query `[1, T, D]` and further vectors `[E, D]`, each times its weight: MaxSim scales with a vector's length.

    >>> x = Embedding.from_vectors(torch.eye(2)[:1])
    >>> expand(x, torch.eye(2)[1:], torch.tensor([0.5])).values.tolist()
    [[[1.0, 0.0], [0.0, 0.5]]]
    """
    more = (centres * weights[:, None])[None].to(q.values.dtype)
    return Embedding(torch.cat([q.values, more], 1), torch.cat([q.mask, torch.ones(1, len(centres)).bool()], 1))


def feedback_search(
    index: Index, q: Embedding, prf: PRF, tokens: Tokens, k: int = 10, where: Where | None = None
) -> list[list[Hit]]:
    """Search, expand each query by what its first hits hold, and search again (or order the first hits anew).

    `index` is any that keeps multi-vectors (`Index.vectors`). With beta or fb_embs 0 this is `index.search`. Scores are
    those of the expanded queries.
    Source: Wang et al. 2021, ColBERT-PRF (arXiv 2106.11251), equation 9 and section 3.3.
    """
    if prf.beta == 0 or prf.fb_embs == 0:
        return index.search(q, k, where)
    depth = prf.fb_docs if prf.mode == "ranker" else max(k, prf.depth, prf.fb_docs)
    first = index.search(q, depth, where)
    asked: list[Embedding] = []
    for at, hits in enumerate(first):
        one = q[at : at + 1]
        if hits:
            found = index.vectors([hit.id for hit in hits[: prf.fb_docs]])
            centres, idf = weigh(found.values[found.mask].float(), tokens, prf)
            one = expand(one, centres[: prf.fb_embs], prf.beta * idf[: prf.fb_embs])
        asked.append(one)
    if not asked:
        return []
    if prf.mode == "ranker":
        return index.search(Embedding.cat(asked), k, where)
    return [
        index.search(one, k, [h.id for h in hits])[0] if hits else [] for one, hits in zip(asked, first, strict=True)
    ]


class Feedback(Exact):
    """Exact MaxSim search that can expand queries: `search(q, prf=PRF(...))`; without `prf` it is `exact`.

    What a token is for its rarity is a cell of a codebook of `codebook` centres over the index's token vectors, made
    when it is first needed after rows changed; `name_tokens` gives an encoder's own token ids instead, which hold
    until rows change and are not saved.
    Source: Wang et al. 2021, ColBERT-PRF (arXiv 2106.11251).

    >>> index = Feedback(codebook=2)
    >>> index.add(["x", "y"], Embedding(torch.eye(4).view(2, 2, 4), torch.ones(2, 2, dtype=torch.bool)))
    >>> q = Embedding.from_vectors(torch.eye(4)[:1])
    >>> [hit.id for hit in index.search(q, k=1, prf=PRF(fb_docs=1, k=2, fb_embs=1))[0]]
    ['x']
    """

    kind = "index/prf"

    def __init__(self, *, codebook: int = 1024) -> None:
        super().__init__()
        if codebook < 1:
            raise ValueError(f"codebook {codebook} must be at least 1")
        self.codebook = codebook
        self._tokens: Tokens | None = None

    def settings(self) -> dict[str, Any]:
        """The arguments that the index was built with."""
        return {"codebook": self.codebook}

    def add(
        self, ids: Sequence[str], x: Embedding, payloads: Sequence[Any] | None = None, *, skip_absent: bool = False
    ) -> None:
        """Add rows of one or more vectors; see `Index.add`."""
        super().add(ids, x, payloads, skip_absent=skip_absent)
        self._tokens = None

    def delete(self, ids: Collection[str]) -> None:
        """Remove rows; see `Index.delete`."""
        super().delete(ids)
        self._tokens = None

    def tokens(self) -> Tokens:
        """The token vectors of the rows that are there, and how rare their tokens are."""
        if self._tokens is None:
            self._tokens = Tokens.of(self, codebook=self.codebook)
        return self._tokens

    def name_tokens(self, ids: Mapping[str, Sequence[int]]) -> None:
        """Say which token each vector of each row is, by row; raises ValueError naming a row that does not fit."""
        self._tokens = Tokens.of(self, ids)

    def search(
        self, q: Embedding, k: int = 10, where: Where | None = None, *, prf: PRF | None = None
    ) -> list[list[Hit]]:
        """The k best rows for each query, expanded as `prf` says; see `Index.search`."""
        if prf is None or not len(self):
            return super().search(q, k, where)
        return feedback_search(self, q, prf, self.tokens(), k, where)
