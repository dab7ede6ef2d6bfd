"""Postings: which texts hold a word and how often, as arrays that are searched where they lie on disk."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coembed.index.rows import PACKED, PackedRows, pack

Numbers = NDArray[np.integer[Any]]
_ARRAYS = ("lengths", "starts", "rows", "counts")


class Postings:
    """The words of N texts, as the `tensors` that a file holds: opening those of a million costs nothing.

    `lengths` `[N]` are the texts' lengths in words, -1 for a row that has no text; the rows that hold word v, and how
    often, stand at `starts[v]` to `starts[v + 1]` of `rows` and `counts`; words are packed as the ids of an index are.
    Raises KeyError or ValueError for tensors that do not fit each other.

    >>> made = Postings.of([["a", "red", "a"], None, ["red"]])
    >>> made.lengths.tolist(), [[some.tolist() for some in found] for found in made.find(["red", "blue"])]
    ([3, -1, 1], [[[0, 2], [1, 1]], [[], []]])
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.lengths, self.starts, self.rows, self.counts = (tensors[name].numpy() for name in _ARRAYS)
        self._words = PackedRows({name: tensors[f"words.{name}"] for name in PACKED})
        stated = int(self.starts[-1]) if len(self.starts) == len(self._words) + 1 else -1
        if not stated == len(self.rows) == len(self.counts):
            raise ValueError("its words do not fit each other")

    @classmethod
    def of(cls, texts: Iterable[Sequence[str] | None]) -> Postings:
        """The words of texts, each as its tokens; None for a row that has no text."""
        numbers: defaultdict[str, int] = defaultdict(count().__next__)
        flat, measured = array("i"), array("i")
        for tokens in texts:
            flat.extend(map(numbers.__getitem__, tokens or ()))
            measured.append(-1 if tokens is None else len(tokens))
        lengths = np.array(measured, dtype=np.int32)
        size = max(1, len(lengths))
        at = np.repeat(np.arange(len(lengths)), np.maximum(lengths, 0))
        pairs, counts = np.unique(np.array(flat, dtype=np.int64) * size + at, return_counts=True)
        starts = np.searchsorted(pairs, np.arange(len(numbers) + 1) * size)
        arrays = (lengths, starts, (pairs % size).astype(np.int32), counts.astype(np.int32))
        words = pack(list(numbers), [None] * len(numbers))
        tensors = {name: torch.from_numpy(some) for name, some in zip(_ARRAYS, arrays, strict=True)}
        return cls(tensors | {f"words.{name}": tensor for name, tensor in words.items()})

    def find(self, tokens: Sequence[str]) -> list[tuple[Numbers, Numbers]]:
        """For each token the rows that hold it, in order, and how often."""
        found = []
        for at in self._words.find(tokens).tolist():
            here = slice(int(self.starts[at]), int(self.starts[at + 1])) if at >= 0 else slice(0)
            found.append((self.rows[here], self.counts[here]))
        return found
