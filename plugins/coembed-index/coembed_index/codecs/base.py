"""Codec: a matrix of vectors in fewer bytes, all of which are counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from coembed import weights

__all__ = ["BudgetError", "Codec", "magnitude_groups", "matrix_bytes"]

_ROWS = 1 << 13  # rows decoded at once


class BudgetError(ValueError):
    """A budget that a codec can't keep; the message says which one it could."""


class Codec(ABC):
    """Vectors `[N, D]` as tensors that take about `budget` of their bytes in float32, and never more.

    `fit` decides and learns what the budget allows and codes the rows; `decode` gives rows back, each the same whatever
    is asked beside it. `encode` codes further rows with what was learned, where a codec can. `tensors` is all
    that is kept: codebooks, factors, maps and indices are in it, so `nbytes` is what the saved file takes, less its
    header.
    """

    method: ClassVar[str]

    def __init__(self, budget: float, *, seed: int = 0) -> None:
        if not 0 < budget <= 1:
            raise BudgetError(f"budget {budget}: a share of the float32 bytes, above 0 and up to 1")
        self.budget, self.seed = budget, seed
        self.shape = (0, 0)
        self.tensors: dict[str, Tensor] = {}

    @abstractmethod
    def fit(self, x: Tensor) -> Self:
        """Learn from the rows `[N, D]` and code them; returns itself. Raises BudgetError if the budget is too small."""

    @abstractmethod
    def decode(self, ids: Tensor) -> Tensor:
        """The rows of these numbers `[B]`, `[B, D]` float32."""

    def encode(self, x: Tensor) -> None:
        """Code further rows, after those that are there; raises ValueError for a codec that can't."""
        raise ValueError(f"{self.method} codes all rows together: fit it anew to add some")

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def ratio(self) -> float:
        """Bytes kept for each byte of the float32 vectors."""
        return self.nbytes / max(1, matrix_bytes(*self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def all(self) -> Tensor:
        """Every row, `[N, D]`."""
        parts = [self.decode(part) for part in torch.arange(len(self)).split(_ROWS)]
        return torch.cat(parts) if parts else torch.zeros(0, self.shape[1])

    def save(self, path: Path | str) -> None:
        """Write one safetensors file."""
        facts = {"method": self.method, "budget": str(self.budget), "shape": "x".join(map(str, self.shape))}
        weights.save({name: tensor.contiguous() for name, tensor in self.tensors.items()}, path, facts)

    @classmethod
    def of_file(cls, tensors: dict[str, Tensor], budget: float, shape: Sequence[int]) -> Self:
        """What `save` wrote."""
        codec = cls(budget)
        codec.tensors, codec.shape = tensors, (shape[0], shape[1])
        return codec

    def allowed(self, x: Tensor) -> int:
        """Bytes that the budget allows for these rows; raises ValueError unless they are finite `[N, D]`."""
        if x.ndim != 2 or not len(x) or not x.isfinite().all():
            raise ValueError(f"{self.method}: finite vectors [N, D] are expected, got {list(x.shape)}")
        self.shape = (len(x), x.shape[1])
        return int(self.budget * matrix_bytes(*self.shape))

    def too_small(self, least: float) -> BudgetError:
        """The error for a budget below what these rows need in bytes."""
        share = least / matrix_bytes(*self.shape)
        return BudgetError(
            f"{self.method}: budget {self.budget} is too small for {self.shape}: {share:.4f} is the least"
        )


def matrix_bytes(rows: int, dim: int) -> int:
    """Bytes of float32 vectors."""
    return 4 * rows * dim


def magnitude_groups(x: Tensor, shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4)) -> Tensor:
    """A group a row `[N]` by falling length: the longest tenth is 0, and so on; one group if lengths are all alike.

    >>> magnitude_groups(torch.tensor([[1.0], [9.0], [2.0]]), shares=(0.34, 0.66)).tolist()
    [1, 0, 1]
    """
    lengths = x.norm(dim=1)
    if lengths.max() <= lengths.min() * (1 + 1e-4):
        return torch.zeros(len(x), dtype=torch.long)
    ends = (torch.tensor(shares).cumsum(0) * len(x)).round().long()
    groups = torch.empty(len(x), dtype=torch.long)
    groups[lengths.argsort(descending=True, stable=True)] = torch.searchsorted(
        ends, torch.arange(len(x)), right=True
    ).clamp_max(len(shares) - 1)
    return groups
