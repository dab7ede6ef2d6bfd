"""Encoders of token sequences that read many of them side by side, without padding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coembed.encoder import Encoder

Row = Sequence[Any]  # one item's tokens, its specials included; only its length means something to others

LEAST = 16  # rows of a matrix product below which the kernels change, and with them the last bits


@dataclass(frozen=True)
class Pack:
    """Sequences laid end to end: `runs` says how many there are of each length, in the order of the tokens.

    >>> pack = Pack.of([3, 3, 2])
    >>> pack.runs, pack.positions.tolist(), pack.size
    (((2, 3), (1, 2)), [0, 1, 2, 0, 1, 2, 0, 1], 8)
    """

    runs: tuple[tuple[int, int], ...]
    positions: Tensor  # [N], each token's place in its own sequence

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Pack:
        """The pack of sequences of these lengths; equal ones should stand together, since each run is one product."""
        runs = tuple((len(list(some)), length) for length, some in groupby(lengths))
        return cls(runs, torch.cat([torch.arange(length).repeat(count) for count, length in runs]))

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return sum(count * length for count, length in self.runs)

    def filled(self) -> Pack:
        """The same with tokens of no sequence behind, where there are too few for the kernels of many rows."""
        spare = max(0, LEAST - self.size)
        return Pack((*self.runs, (spare, 1)), F.pad(self.positions, (0, spare))) if spare else self

    def split(self, values: Tensor) -> list[Tensor]:
        """Values `[N, …]` by run, each `[count, length, …]`: views, no copy."""
        parts = values.split([count * length for count, length in self.runs])
        return [part.unflatten(0, run) for part, run in zip(parts, self.runs, strict=True)]


class PackedEncoder(Encoder):
    """An encoder that offers a way without padding beside `collate` and `forward`; `encode` takes it.

    An author writes `tokenize` and `read_packed`, with features equal to those of `forward`.
    """

    @property
    def packs(self) -> bool:
        """Whether this instance can; where it can't, `collate` and `forward` are used."""
        return True

    @abstractmethod
    def tokenize(self, items: Sequence[Any], prompt: str = "") -> list[Row]:
        """Every item's tokens, cut where the encoder cuts; raises BadItem as `collate` does."""

    @abstractmethod
    def read_packed(self, rows: Sequence[Row], pack: Pack, layer: int | None = None) -> Tensor:
        """Rows to their token features `[N, token_dim]`, end to end; `layer=k` stops after block k."""

    def hidden_tokens(self, rows: Sequence[Row], prompt: str) -> list[int]:
        """How many tokens at the start of each row pooling must not see: those of a prompt that is only read."""
        return [0] * len(rows)
