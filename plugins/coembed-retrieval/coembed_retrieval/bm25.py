"""BM25: texts found by the words that they share with the query, beside vectors; the counting is bm25s'."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from coembed.arguments import items_list, number
from coembed.embedding import Embedding
from coembed.index import Hit, IndexFileError, Where, writing
from coembed.index.base import allowed, check_rows
from coembed.index.folder import read_facts
from coembed_retrieval.tokens import Tokenize, tokenizer

KIND = "retrieval/bm25"


class BM25:
    """Texts with ids and payloads, searched by BM25; hits share at least one word with the query.

    Ids, payloads and `where` are those of an index. `tokenize` is "words", "code" (identifiers and their parts) or any
    function from an item to a list of tokens, such as a DNA sequence to its k-mers. `k1` says how soon further
    occurrences of a word stop to count, `b` how much long texts are held against. Equal scores come in the order in
    which the texts were added. Searching after a change counts all texts anew.
    Source: Robertson and Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and Beyond; the idf is Lucene's,
    which is never negative (Kamphuis et al. 2020).

    >>> index = BM25()
    >>> index.add(["a", "b"], ["a red cat", "a blue dog"], [None, {"lang": "en"}])
    >>> index.retrieve(["dog"], k=1)[0][0].payload
    {'lang': 'en'}
    """

    def __init__(
        self, *, tokenize: str | Tokenize = "words", k1: float = 1.5, b: float = 0.75, name: str = "bm25"
    ) -> None:
        number("k1", k1)
        number("b", b, most=1)
        self.tokenize, self.k1, self.b, self.name = tokenize, k1, b, name
        self._tokens = tokenizer(tokenize)
        self._ids: list[str] = []
        self._texts: list[Any] = []
        self._payloads: list[Any] = []
        self._made: Any = None  # bm25s' counts, of the texts as they are now

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> list[str]:
        """The ids in the order they were added."""
        return list(self._ids)

    def add(self, ids: Sequence[str], texts: Sequence[Any], payloads: Sequence[Any] | None = None) -> None:
        """Add texts; all of them or, if any is refused, none. Raises ValueError or TypeError as `Index.add`."""
        items_list(texts, "BM25.add, texts")
        if len(ids) != len(texts):
            raise ValueError(f"BM25: {len(texts)} texts but {len(ids)} ids")
        names, _, given = check_rows(ids, _blank(len(ids)), payloads, dim=None, taken=set(self._ids), skip_absent=False)
        for name, text in zip(names, texts, strict=True):
            if isinstance(self.tokenize, str) and not isinstance(text, str):
                raise TypeError(f"BM25: the text of id {name!r} is {type(text).__name__}, a string is expected")
        self._ids += names
        self._texts += texts
        self._payloads += given
        self._made = None

    def delete(self, ids: Collection[str]) -> None:
        """Remove texts; raises KeyError naming an id that is not there, and then removes none."""
        gone = set(ids)
        if unknown := gone - set(self._ids):
            raise KeyError(f"BM25: there is no id {min(unknown)!r} to delete")
        kept = [row for row, name in enumerate(self._ids) if name not in gone]
        self._ids, self._texts, self._payloads = (
            [column[row] for row in kept] for column in (self._ids, self._texts, self._payloads)
        )
        self._made = None

    def retrieve(self, queries: Sequence[Any], k: int = 10, where: Where | None = None) -> list[list[Hit]]:
        """The k best texts for each query, best first; fewer where fewer share a word with it.

        `where` and the errors are those of `Index.search`.
        """
        items_list(queries, "BM25.retrieve, queries")
        number("k", k, whole=True, least=1)
        mask = allowed(where, self._ids, self._payloads)
        return [self._best(self._tokens(query), k, None if mask is None else mask.numpy()) for query in queries]

    def scores(self, query: Any) -> NDArray[np.float32]:
        """The score of every text for one query `[N]`; 0 where no word is shared.

        >>> index = BM25()
        >>> index.add(["a", "b"], ["a red cat", "a blue dog"])
        >>> (index.scores("dog") > 0).tolist()
        [False, True]
        """
        return self._scores(self._tokens(query))

    def _scores(self, tokens: list[str]) -> NDArray[np.float32]:
        if self._made is None:
            self._made = self._counted()
        numbers = self._made.get_tokens_ids(tokens) if self._made is not False else []
        if not numbers:
            return np.zeros(len(self), dtype=np.float32)
        found: NDArray[np.float32] = self._made.get_scores_from_ids(numbers)
        return found

    def _counted(self) -> Any:
        """bm25s' counts; False where there is not a single token to count."""
        import bm25s

        tokens = [self._tokens(text) for text in self._texts]
        if not any(tokens):
            return False
        made = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
        made.index(tokens, show_progress=False)
        return made

    def _best(self, tokens: list[str], k: int, mask: NDArray[np.bool_] | None) -> list[Hit]:
        scores = self._scores(tokens)
        if mask is not None:
            scores = np.where(mask, scores, 0)
        return [Hit(self._ids[row], float(scores[row]), self._payloads[row]) for row in top(scores, k)]

    def save(self, folder: Path | str) -> None:
        """Write texts, ids, payloads and settings to a folder, whole or not at all; `load` counts anew.

        A tokenizer that has no name is code, which no folder holds: `load` asks for it. Raises IndexFileError if the
        folder holds anything else, TypeError for items that JSON can't hold.
        """
        rows = zip(self._ids, self._texts, self._payloads, strict=True)
        lines = [json.dumps(row, ensure_ascii=True) for row in rows]
        named = self.tokenize if isinstance(self.tokenize, str) else None
        facts = {"kind": KIND, "count": len(self), "tokenize": named, "k1": self.k1, "b": self.b, "name": self.name}
        with writing(folder) as writer:
            path = writer.fresh("jsonl")
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
            writer.commit(facts | {"texts": path.name}, [path.name])

    @classmethod
    def load(cls, folder: Path | str, *, tokenize: Tokenize | None = None) -> Self:
        """Read what `save` wrote; a tokenizer that has no name is given again.

        Raises IndexFileError naming the file that is missing or damaged, ValueError if a tokenizer is needed.
        """
        folder = Path(folder)
        facts = read_facts(folder, "texts", "count", "tokenize", "k1", "b", "name")
        if facts["kind"] != KIND:
            raise IndexFileError(f"{folder}: its kind is {facts['kind']}, not {KIND}; open_index reads it")
        if facts["tokenize"] is None and tokenize is None:
            raise ValueError(f"{folder} needs its own tokenizer: BM25.load(folder, tokenize=that function)")
        made = cls(tokenize=tokenize or facts["tokenize"], k1=facts["k1"], b=facts["b"], name=facts["name"])
        path = folder / facts["texts"]
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
            made._ids, made._texts, made._payloads = map(list, zip(*rows, strict=True)) if rows else ([], [], [])
        except (OSError, ValueError, TypeError) as error:
            raise IndexFileError(f"{path}: missing or damaged ({error})") from error
        if len(made) != facts["count"]:
            raise IndexFileError(f"{path}: {len(made)} texts do not fit what index.json says ({facts['count']})")
        return made


def top(scores: NDArray[np.floating[Any]], k: int) -> list[int]:
    """The rows of the k highest scores above 0, best first, equal ones in their order.

    >>> top(np.array([0.0, 1.0, 2.0, 1.0]), 2)
    [2, 1]
    """
    rows = np.flatnonzero(scores > 0)
    if len(rows) > k:  # those at least as good as the k-th: sorting all of them would cost more than counting
        rows = rows[scores[rows] >= np.partition(scores[rows], -k)[-k]]
    found: list[int] = rows[np.argsort(-scores[rows], kind="stable")][:k].tolist()
    return found


def _blank(rows: int) -> Embedding:
    """Rows of nothing: the checks of ids and payloads are the index's own."""
    import torch

    return Embedding.from_vectors(torch.zeros(rows, 1))
