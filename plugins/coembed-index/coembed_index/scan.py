"""Scan: an index that looks at the codes of every row; a codec writes `encode` and `scores`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coembed.index import Found
from coembed_index.base import Approximate

__all__ = ["Best", "Scan"]

_SCORES = 1 << 19  # scores held at once, 2 MB: they are read again, so they should stay in cache
_BLOCK = 1 << 14  # rows of a block at most


class Scan(Approximate):
    """Every row's code is compared with every query; what a filter leaves out is not looked at where little is left.

    A codec writes `encode` (and `train`, `state`, `restore`, if it learns), `scores`, and `ask` if queries can be made
    ready once for all rows. No row that `mask` allows is lost but by what codes blur.
    """

    def ask(self, queries: Tensor) -> Any:
        """What `scores` takes for queries `[B, W]`, made once a search: tables, codes, or queries themselves."""
        return queries

    @abstractmethod
    def scores(self, asked: Any, codes: dict[str, Tensor]) -> Tensor:
        """Scores of queries, as `ask` gave them, with the codes of R rows: `[B, R]`, higher is better.

        They may be of any scale a query where only their order is used (`rescore` > 0), in float32, in either memory
        layout.
        """

    def candidates(self, queries: Tensor, n: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The n best rows by their codes; see `Approximate.candidates`."""
        asked, start, best = self.ask(queries), 0, Best(len(queries), n)
        size = max(1, min(_BLOCK, _SCORES // max(1, len(queries))))
        for part in self.segments():
            inside = None if mask is None else mask[start : start + len(part)]
            few = inside is not None and int(inside.sum()) * 3 < len(part)
            numbers = inside.nonzero().flatten() if few and inside is not None else None
            for at in range(0, len(part) if numbers is None else len(numbers), size):
                if numbers is None:
                    here = torch.arange(at, min(at + size, len(part)))
                    codes = {name: code[at : at + size] for name, code in part.codes.items()}
                else:
                    here = numbers[at : at + size]
                    codes = {name: code[here] for name, code in part.codes.items()}
                scored = self.scores(asked, codes)  # [B, R]
                if inside is not None and numbers is None:
                    scored = scored.masked_fill(~inside[here], -torch.inf)
                best.take(scored, here + start)
            start += len(part)
        return best.table()


class Best:
    """The n best rows of B queries, block by block: once it has n, a block is only compared with the n-th score.

    >>> best = Best(1, 2)
    >>> best.take(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([4, 5, 6]))
    >>> best.table()[0].tolist()
    [[5, 6]]
    """

    def __init__(self, queries: int, n: int) -> None:
        self.found, self.n = Found(queries, n), n
        self.pending: list[tuple[Tensor, Tensor, Tensor]] = []
        self.waiting = 0

    def take(self, scores: Tensor, rows: Tensor) -> None:
        """Look through scores `[B, R]` of rows numbered `[R]`, each of them once; -inf is none."""
        floor = self.found.floor
        if not len(rows):
            return
        if bool((floor == -torch.inf).any()) and len(rows) > self.n:
            values, at = scores.topk(self.n, dim=1)
            queries = torch.arange(len(scores))[:, None].expand(at.shape)
            there = values > -torch.inf
            self._add(queries[there], rows[at[there]], values[there])
            self._settle()
            return
        over = scores > floor[:, None]
        count = max(1, len(scores))
        if over.stride(1) == 1 or count == 1:
            flat = torch.from_numpy(np.flatnonzero(over.contiguous().numpy()))
            queries, at = flat // len(rows), flat % len(rows)
        else:  # one row's scores lie together
            flat = torch.from_numpy(np.flatnonzero(over.T.contiguous().numpy()))
            queries, at = flat % count, flat // count
        self._add(queries, rows[at], scores[queries, at])
        if self.waiting > max(4096, 2 * self.n * count) or bool((floor == -torch.inf).any()):
            self._settle()

    def table(self) -> tuple[Tensor, Tensor]:
        """Rows `[B, n]`, best first, -1 where there are fewer, and their scores."""
        self._settle()
        found = self.found
        rows = torch.full((len(found.floor), self.n), -1)
        scores = torch.full(rows.shape, -torch.inf)
        place = torch.arange(len(found.queries)) - torch.searchsorted(found.queries, found.queries)
        rows[found.queries, place], scores[found.queries, place] = found.rows, found.scores
        return rows, scores

    def _add(self, queries: Tensor, rows: Tensor, scores: Tensor) -> None:
        self.pending.append((queries, rows, scores.float()))
        self.waiting += len(rows)

    def _settle(self) -> None:
        if self.waiting:
            self.found.add(*(torch.cat(column) for column in zip(*self.pending, strict=True)))
        self.pending, self.waiting = [], 0
