"""`text/tfidf`: the lexical baseline. No parameters that train: counts, and how rare a term is in a corpus."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.spec import EncoderSpec
from coembed_text.head import Normalize
from coembed_text.terms import term_hash, terms
from coembed_text.texts import SAMPLES, checked, read_file

_SETTINGS = "tfidf.json"


class TfIdf(Encoder):
    """Encode texts as unit vectors of TF-IDF weights over words and the letter n-grams inside them.

    The defaults did best among those tried on docstrings and functions: a term for each word, and for 3 and 4 letters
    within words, which sees that "parsed" and "parser" are akin. `hashed`: terms fall into `dim` columns by a signed
    hash, which works unfitted (every term then counts alike) and never meets an unknown term. `hashed=False`: a column
    for each of the `dim` most frequent terms of the corpus that `fit` is given. `words` is the longest n-gram of words
    (0: none), `chars` of letters (0: none, else 3 or more); `sublinear` counts a term 1 + ln(count) times. Identifiers
    are split into words. A text without known terms gets the zero vector. ValueError names an argument that cannot be.
    Source: Salton and Buckley 1988, with the smoothed idf 1 + ln((1 + N) / (1 + df)); Weinberger et al. 2009, Feature
    Hashing, for the signs.

    >>> spec = EncoderSpec(name="text/tfidf", modality="text", dim=64, target="coembed_text.tfidf:TfIdf")
    >>> encoder = TfIdf(spec).fit(["the cat", "the dog"])
    >>> x = encoder.encode(["the cat", "a cat", "the dog"]).vectors
    >>> bool(x[0] @ x[1] > x[0] @ x[2])
    True
    """

    idf: Tensor

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        dim: int | None = None,
        words: int = 1,
        chars: int = 4,
        sublinear: bool = True,
        hashed: bool = True,
    ) -> None:
        super().__init__(spec)
        self.dim = dim or spec.dim or 4096
        if self.dim < 1 or words < 0 or (chars and chars < 3) or not (words or chars):
            raise ValueError(f"{spec.name}: dim={self.dim}, words={words}, chars={chars} give no terms to count")
        self.words, self.chars, self.sublinear, self.hashed = words, chars, sublinear, hashed
        self.vocabulary: dict[str, int] = {}
        self.register_buffer("idf", torch.ones(self.dim))
        self.pooling = Normalize()

    def _counts(self, text: str) -> dict[int, float]:
        """Column to count; with a hash, terms of opposite sign in one column may cancel."""
        counts: dict[int, float] = {}
        for term, count in Counter(terms(text, self.words, self.chars)).items():
            weight = 1 + math.log(count) if self.sublinear else float(count)
            if self.hashed:
                code = term_hash(term)
                column, weight = code % self.dim, -weight if code >> 63 else weight
            elif term in self.vocabulary:
                column = self.vocabulary[term]
            else:
                continue
            counts[column] = counts.get(column, 0.0) + weight
        return counts

    def fit(self, items: Iterable[Any]) -> Self:
        """Learn from a corpus how rare terms are and, unless `hashed`, which terms have a column.

        Raises ValueError for an empty corpus, BadItem for an item that is no text.
        """
        texts = checked(list(items))
        if not texts:
            raise ValueError(f"{self.spec.name}: fit needs at least one text")
        if not self.hashed:
            seen = Counter(term for text in texts for term in set(terms(text, self.words, self.chars)))
            common = sorted(seen, key=lambda term: (-seen[term], term))[: self.dim]
            self.vocabulary = {term: column for column, term in enumerate(common)}
        frequency = torch.zeros(self.dim, dtype=torch.float64)
        for text in texts:
            columns = list(self._counts(text))
            frequency[columns] += 1
        idf = 1 + ((1 + len(texts)) / (1 + frequency)).log()
        self.idf.copy_(idf)
        return self

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Texts to the `columns` of their terms and the `weights` in them, [B, T] each, padded with weight 0."""
        rows = [self._counts(text) for text in checked(items, prompt)]
        longest = max(map(len, rows), default=0)
        return {
            "columns": torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], dtype=torch.long),
            "weights": torch.tensor([[*row.values(), *[0.0] * (longest - len(row))] for row in rows]),
        }

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """The weighted counts [B, 1, D]: a text is one vector, not one a word."""
        self.check_layer(layer)
        columns = batch["columns"]
        values = self.idf.new_zeros(len(columns), self.dim)
        values.scatter_add_(1, columns, batch["weights"].to(values.dtype) * self.idf[columns])
        return Embedding.from_vectors(values, self.sizes)

    def run(self, items: Sequence[Any], *args: Any, **kwargs: Any) -> list[tuple[list[int], Embedding]]:
        """The engine under `encode`; raises ValueError where `fit` is needed first."""
        if not self.hashed and not self.vocabulary:
            raise ValueError(f"{self.spec.name}: hashed=False needs a corpus first: call fit(texts)")
        return super().run(items, *args, **kwargs)

    def size(self, item: Any) -> int:
        """The length of the text: what padding grows with."""
        return len(item)

    def read(self, path: Path) -> list[str]:
        """The whole text file as one item; raises ValueError for what is not UTF-8 text."""
        return read_file(path)

    def save_assets(self, folder: Path) -> None:
        """Write tfidf.json: how terms are counted, and the vocabulary if there is one."""
        settings = {
            "words": self.words,
            "chars": self.chars,
            "sublinear": self.sublinear,
            "hashed": self.hashed,
            "dim": self.dim,
            "vocabulary": list(self.vocabulary),
        }
        (folder / _SETTINGS).write_text(json.dumps(settings, indent=1), "utf-8")

    def load_assets(self, folder: Path) -> None:
        """Read what `save_assets` wrote, whatever this one counted before."""
        path = folder / _SETTINGS
        try:
            settings = json.loads(path.read_text("utf-8"))
            self.words, self.chars = settings["words"], settings["chars"]
            self.sublinear, self.hashed = settings["sublinear"], settings["hashed"]
            self.vocabulary = {term: column for column, term in enumerate(settings["vocabulary"])}
            dim = int(settings["dim"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not what {type(self).__name__} writes: {error!r}") from error
        if dim != self.dim:
            self.dim, self.idf = dim, self.idf.new_ones(dim)

    @classmethod
    def samples(cls) -> Sequence[str]:
        """A few texts that differ."""
        return list(SAMPLES)
