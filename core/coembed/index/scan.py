"""Scan: queries against all vectors, a block of rows at a time; pairs by themselves where bits matter."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from coembed.embedding import Embedding

_SCORES = 1 << 22  # scores held at once, 16 MB
_PAIRS = 1 << 14  # rows scored by themselves at once


class Scan:
    """MaxSim of queries against rows of vectors, without the rows that `mask` `[N]` leaves out.

    `vectors` `[sum T, D]` are those of all rows, one after another, `lengths` `[N]` how many each row has.

    >>> scan = Scan(torch.eye(3), torch.ones(3, dtype=torch.long), Embedding.from_vectors(torch.eye(3)[1:]))
    >>> scan.best(1)[1]
    tensor([[1],
            [2]])
    """

    def __init__(self, vectors: Tensor, lengths: Tensor, q: Embedding, mask: Tensor | None = None) -> None:
        self.vectors, self.lengths, self.mask = vectors, lengths, mask
        self.ends = lengths.cumsum(0)  # where each row's vectors end
        self.single = len(vectors) == len(lengths)
        self.tokens = q.values.masked_fill(~q.mask.unsqueeze(-1), 0)  # [B, T, D]
        self.present = q.mask
        if self.single:  # every query token meets the one vector of a row, so the tokens can be summed first
            self.tokens = self.tokens.sum(1, keepdim=True)
        self.norms = self.tokens.norm(dim=2).sum(1)  # [B]; times a row's longest vector, a bound on its score

    def best(self, count: int) -> tuple[Tensor, Tensor]:
        """Scores and rows of about the best `count` rows for each query, `[B, min(count, N)]`, best first.

        Scores are a matrix product's: off by rounding. Rows that are left out score -inf.
        """
        scores, rows = [], []
        for start, block in self._blocks(slice(None)):
            values, at = block.topk(min(count, block.shape[1]), dim=1)
            scores.append(values)
            rows.append(at + start)
        joined = torch.cat(scores, 1)
        values, at = joined.topk(min(count, joined.shape[1]), dim=1)
        return values, torch.cat(rows, 1).gather(1, at)

    def pairs(self, at: int, rows: Tensor) -> Tensor:
        """Scores `[R]` of one query with rows, each by itself: equal vectors give equal bits, whatever is near them."""
        if self.single:
            parts = [rows[i : i + _PAIRS] for i in range(0, max(1, len(rows)), _PAIRS)]
            return torch.cat([(self.vectors[part] * self.tokens[at]).sum(1) for part in parts])
        tokens = self.tokens[at][self.present[at]]
        scores = torch.empty(len(rows))
        for i, row in enumerate(rows.tolist()):
            scores[i] = (tokens @ self.vectors[self._of(row, row + 1)].T).amax(1).sum()
        return scores

    def above(self, at: int, floor: float, k: int) -> tuple[Tensor, Tensor]:
        """The k best rows, scored as by `pairs`, among all whose rough score is at least `floor`; ties by row."""
        scores, rows = torch.zeros(0), torch.zeros(0, dtype=torch.long)
        for start, block in self._blocks(slice(at, at + 1)):
            more = (block[0] >= floor).nonzero().flatten() + start
            scores, rows = top(torch.cat([scores, self.pairs(at, more)]), torch.cat([rows, more]), k)
        return scores, rows

    def _of(self, first: int, last: int) -> slice:
        """Where the vectors of rows first..last lie."""
        return slice(int(self.ends[first - 1]) if first else 0, int(self.ends[last - 1]))

    def _blocks(self, some: slice) -> Iterator[tuple[int, Tensor]]:
        """The first row of every block, and the scores `[B, rows]` of some queries."""
        tokens = self.tokens[some]
        most = max(1, _SCORES // max(1, tokens.shape[0] * tokens.shape[1]))  # vectors in a block
        start, count = 0, len(self.lengths)
        while start < count:
            before = int(self.ends[start - 1]) if start else 0
            end = max(start + 1, int(torch.searchsorted(self.ends, before + most, right=True)))
            if self.mask is None or self.mask[start:end].any():
                block = self._score(tokens, start, end)
                yield start, block if self.mask is None else block.masked_fill_(~self.mask[start:end], -torch.inf)
            start = end

    def _score(self, tokens: Tensor, start: int, end: int) -> Tensor:
        vectors = self.vectors[self._of(start, end)]
        if self.single:
            return tokens[:, 0] @ vectors.T
        flat = vectors @ tokens.flatten(0, 1).T  # [sum T, B * Tq]
        best = torch.segment_reduce(flat, "max", lengths=self.lengths[start:end], axis=0, unsafe=True)
        return best.reshape(-1, *tokens.shape[:2]).sum(2).T  # masked tokens are zero and add nothing


def top(scores: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best, equal scores in the order they stand in."""
    order = scores.argsort(descending=True, stable=True)[:k]
    return scores[order], rows[order]
