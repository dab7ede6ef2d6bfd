"""BM25 over the texts that an index keeps: words are counted once a segment, and stay on disk beside the index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from coembed import weights
from coembed.arguments import items_list, number
from coembed.index import Hit, IndexFileError, Segment, Stored, Where, Writer, writing
from coembed.index.folder import read_facts
from coembed_retrieval.bm25 import top
from coembed_retrieval.postings import Numbers, Postings
from coembed_retrieval.tokens import TOKENS, Tokenize, tokenizer

KIND = "retrieval/words"
_Part = tuple[Segment, Postings, NDArray[np.bool_]]  # the rows that have a text and are not deleted


class StoredBM25:
    """Search an index by the words that its payloads keep: a payload that is a text, or its `text`.

    It follows the index: rows added later are found, deleted ones are not, neither is counted, and nothing that was
    counted is counted again. With a `folder` the words stay there for the next process, by the index's own files, which
    never change; one that can't be written, or that another process is writing to, costs time alone. `tokenize`, `k1`
    and `b` are those of `BM25`, and so are the scores; words by a function of one's own are not kept on disk, since no
    folder could say which function it was.
    Source: Robertson and Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and Beyond; the idf is Lucene's.

    >>> import torch
    >>> from coembed import Embedding
    >>> from coembed.index import Exact
    >>> index = Exact()
    >>> index.add(["a", "b"], Embedding.from_vectors(torch.eye(2)), [{"text": "a red cat"}, {"text": "a blue dog"}])
    >>> words = StoredBM25(index)
    >>> words.retrieve(["dog"])[0][0].id, len(words)
    ('b', 2)
    """

    def __init__(
        self,
        index: Stored,
        *,
        tokenize: str | Tokenize = "words",
        k1: float = 1.5,
        b: float = 0.75,
        folder: Path | str | None = None,
        name: str = "bm25",
    ) -> None:
        number("k1", k1)
        number("b", b, most=1)
        self.index, self.tokenize, self.k1, self.b, self.name = index, tokenize, k1, b, name
        self.folder = None if folder is None or not isinstance(tokenize, str) else Path(folder)
        self._tokens = tokenizer(tokenize)
        self._counted: WeakKeyDictionary[Segment, Postings] = WeakKeyDictionary()

    def __len__(self) -> int:
        """How many rows have a text."""
        return sum(int(live.sum()) for _, _, live in self._parts())

    def retrieve(self, queries: Sequence[Any], k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best rows for each query, best first; fewer where fewer share a word with it.

        Equal scores come in the order of rows. `where` and the errors are those of `Index.search`.
        """
        items_list(queries, "StoredBM25.retrieve, queries")
        number("k", k, whole=True, least=1)
        parts = self._parts()
        allowed = [None if mask is None else mask.numpy() for mask in self.index.masks(where)]
        found = []
        for query in queries:
            scores = self._scores(self._tokens(query), parts)
            for own, mask in zip(scores, allowed, strict=True):
                if mask is not None:
                    own[~mask] = 0
            found.append(_best(scores, [part for part, _, _ in parts], k))
        return found

    def _scores(self, tokens: list[str], parts: list[_Part]) -> list[NDArray[np.float64]]:
        """The score of every row of every segment for one query; 0 where no word is shared."""
        scores = [np.zeros(len(part)) for part, _, _ in parts]
        texts = sum(int(live.sum()) for _, _, live in parts)
        length = sum(int(counted.lengths[live].sum()) for _, counted, live in parts)
        found = [counted.find(tokens) for _, counted, _ in parts]
        for at in range(len(tokens)):
            here = [_those(some[at], live) for some, (_, _, live) in zip(found, parts, strict=True)]
            holding = sum(len(rows) for rows, _ in here)
            idf = np.log(1 + (texts - holding + 0.5) / (holding + 0.5))
            for (rows, counts), (_, counted, _), own in zip(here, parts, scores, strict=True):
                if len(rows):
                    long = counted.lengths[rows] * (texts / length)
                    own[rows] += idf * counts / (counts + self.k1 * (1 - self.b + self.b * long))
        return scores

    def _parts(self) -> list[_Part]:
        """Each segment with its words, and which of its rows have a text and are not deleted."""
        segments = self.index.segments()
        if any(part not in self._counted for part in segments):
            self._count(segments)
        parts = []
        for part in segments:
            counted = self._counted[part]
            live = counted.lengths >= 0
            parts.append((part, counted, live if part.gone is None else live & ~part.gone.numpy()))
        return parts

    def _count(self, segments: list[Segment]) -> None:
        """Take words from disk where they are there; count the others, and leave them on disk."""
        kept, fresh = self._kept(), False
        for part in segments:
            if part not in self._counted:
                read = self._read(kept.get(part.file or ""), len(part))
                self._counted[part] = read or Postings.of(
                    map(self._tokens_of, map(part.rows.payload, range(len(part))))
                )
                fresh |= read is None and part.file is not None
        if fresh and self.folder is not None:
            try:
                with writing(self.folder) as writer:
                    self._write(writer, segments)
            except (IndexFileError, OSError):  # no right to write, or another process writes: it is counted again
                pass

    def _tokens_of(self, payload: Any) -> list[str] | None:
        text = payload.get("text") if isinstance(payload, dict) else payload
        return self._tokens(text) if isinstance(text, str) else None

    def _kept(self) -> dict[str, str]:
        """The files of words that are on disk, by the file of the segment that they are of."""
        try:
            facts = {} if self.folder is None else read_facts(self.folder, "tokenize", "tokens", "words")
        except (IndexFileError, OSError):
            return {}
        same = facts.get("kind") == KIND and facts["tokenize"] == self.tokenize and facts["tokens"] == TOKENS
        return dict(facts["words"]) if same else {}

    def _read(self, name: str | None, rows: int) -> Postings | None:
        if name is None or self.folder is None:
            return None
        try:
            found = Postings(weights.read(self.folder / name))
        except (OSError, KeyError, ValueError):  # removed meanwhile, or damaged
            return None
        return found if len(found.lengths) == rows else None

    def _write(self, writer: Writer, segments: list[Segment]) -> None:
        """Leave the words of exactly these segments on disk."""
        if writer.version() is not None and read_facts(writer.folder)["kind"] != KIND:
            return  # an index has its place there
        kept, words = self._kept(), dict[str, str]()
        for part in segments:
            if part.file is not None:
                there = kept.get(part.file)
                if there is None or self._read(there, len(part)) is None:
                    path = writer.fresh("safetensors")
                    weights.save(self._counted[part].tensors, path)
                    there = path.name
                words[part.file] = there
        writer.commit({"kind": KIND, "tokenize": self.tokenize, "tokens": TOKENS, "words": words}, words.values())


def _those(found: tuple[Numbers, Numbers], live: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    rows, counts = found
    kept = live[rows]
    return rows[kept], counts[kept]


def _best(scores: list[NDArray[np.float64]], segments: list[Segment], k: int) -> list[Hit]:
    """The k best rows of all segments."""
    hits = []
    for own, part in zip(scores, segments, strict=True):
        for row in top(own, k):
            hits.append((float(own[row]), part.rows, row))
    hits.sort(key=lambda hit: -hit[0])  # stable: equal ones stay in the order of rows
    return [Hit(rows.id(row), score, rows.payload(row)) for score, rows, row in hits[:k]]
