"""Masks: what `where` allows, for each segment; filters remember the columns that they have read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coembed.index.base import Where, allowed
from coembed.index.filters import ROWS, Filter, Payloads
from coembed.index.segment import Segment


class Masks:
    """The masks of some segments, for as long as these stay as they are."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._columns: list[Payloads] | None = None

    def of(self, where: Where) -> list[Tensor]:
        """A mask `[N]` a segment, deleted rows among its rows; raises as `Index.search`."""
        if isinstance(where, str):
            wanted = Filter(where)
            if self._columns is None:
                self._columns = [Payloads(_Lazy(part)) for part in self._segments]
            return [torch.from_numpy(wanted.mask(columns)) for columns in self._columns]
        if isinstance(where, (Tensor, np.ndarray)):
            kept = [part.kept() for part in self._segments]
            live = allowed(where, range(sum(map(len, kept))), ())  # type: ignore[arg-type]  # only counted
            assert live is not None
            parts = live.split([len(rows) for rows in kept])
            return [_spread(part, rows, flags) for part, rows, flags in zip(self._segments, kept, parts, strict=True)]
        if callable(where):
            return [
                torch.tensor([bool(where(payload)) for payload in _Lazy(part)], dtype=torch.bool)
                for part in self._segments
            ]
        allowed(where, (), ())  # refuses what is no list of ids
        names = list(where)
        masks = []
        for part in self._segments:
            mask = torch.zeros(len(part), dtype=torch.bool)
            at = part.rows.find(names)
            mask[torch.from_numpy(at[at >= 0])] = True
            masks.append(mask)
        return masks


def _spread(part: Segment, rows: Tensor, flags: Tensor) -> Tensor:
    mask = torch.zeros(len(part), dtype=torch.bool)
    mask[rows] = flags
    return mask


class _Lazy(Sequence[Any]):
    """The payloads of a segment, read when they are asked for."""

    def __init__(self, part: Segment) -> None:
        self._part = part

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            return self._part.rows.payloads(start, stop) if step == 1 else [self[i] for i in range(start, stop, step)]
        if rows >= len(self):
            raise IndexError(rows)
        return self._part.rows.payload(rows)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), ROWS):
            yield from self[start : start + ROWS]
