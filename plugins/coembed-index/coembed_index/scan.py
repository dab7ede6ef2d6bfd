"""Scan: an index that looks at the codes of every row; a codec writes `encode` and `scores`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from coembed_index.base import Approximate

__all__ = ["Scan"]

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

        They may be integers or of any scale a query, as long as only their order is used (`rescore` > 0).
        """

    def candidates(self, queries: Tensor, n: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The n best rows by their codes; see `Approximate.candidates`."""
        asked, start = self.ask(queries), 0
        values, rows = [], []
        size = max(1, min(_BLOCK, _SCORES // max(1, len(queries))))
        for part in self.segments():
            inside = None if mask is None else mask[start : start + len(part)]
            few = inside is not None and int(inside.sum()) * 3 < len(part)
            numbers = inside.nonzero().flatten() if few and inside is not None else None
            for at in range(0, len(part) if numbers is None else len(numbers), size):
                if numbers is None:
                    codes = {name: code[at : at + size] for name, code in part.codes.items()}
                    here = torch.arange(at, min(at + size, len(part)))
                else:
                    here = numbers[at : at + size]
                    codes = {name: code[here] for name, code in part.codes.items()}
                scored = self.scores(asked, codes)  # [B, R]
                if inside is not None and numbers is None:
                    lowest = -torch.inf if scored.is_floating_point() else torch.iinfo(scored.dtype).min
                    scored = scored.masked_fill(~inside[here], lowest)
                best = scored.topk(min(n, len(here)), dim=1)
                values.append(best.values)
                rows.append(here[best.indices] + start)
            start += len(part)
        every, numbered = torch.cat(values, 1), torch.cat(rows, 1)
        top = every.topk(min(n, every.shape[1]), dim=1)
        found = numbered.gather(1, top.indices)
        if mask is not None:
            found = found.masked_fill(~mask[found], -1)
        return found, top.values
