"""Table: what an embedding table in fewer bytes is, while it trains and once it is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from coembed_index.codecs.base import BudgetError

__all__ = ["BudgetError", "Table", "hashed", "hashes"]

PRIME = (1 << 31) - 1


class Table(nn.Module, ABC):
    """Rows for `n` numbers, `d` wide, whose `stored` tensors take about `allowed` bytes.

    Numbers are taken to come by falling frequency where a method treats frequent ones better (`ranked`). `rows` are
    looked up; `penalty` is what the loss gains since the last one; `after_step` runs after each step of the optimiser,
    where a method rounds or prunes then. `stored` is all that must be kept to look rows up; `restore` takes it back.
    """

    method: ClassVar[str]
    ranked: ClassVar[bool] = False

    def __init__(self, n: int, d: int, allowed: int, seed: int) -> None:
        super().__init__()
        self.n, self.d, self.allowed, self.seed = n, d, allowed, seed
        self.steps = 0

    @abstractmethod
    def rows(self, ids: Tensor) -> Tensor:
        """Rows `[U, d]` of numbers `[U]`, which are all different and in order."""

    def penalty(self) -> Tensor:
        """What the loss gains."""
        return torch.zeros(())

    def after_step(self) -> None:
        """Called after each step of the optimiser."""
        self.steps += 1

    def stored(self) -> dict[str, Tensor]:
        """All tensors that looking rows up needs."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def restore(self, stored: dict[str, Tensor]) -> None:
        """Take back what `stored` gave."""
        self.load_state_dict(stored)

    def too_small(self, least: float) -> BudgetError:
        """The error for a budget below what these rows need in bytes."""
        share = least / (4 * self.n * self.d)
        return BudgetError(
            f"{self.method}: {self.allowed} bytes are too few for [{self.n}, {self.d}]: budget {share:.4f}"
        )


def hashes(count: int, seed: int) -> Tensor:
    """Multipliers and shifts `[2, count]` of universal hash functions, int64."""
    return torch.randint(1, PRIME, (2, count), generator=torch.Generator().manual_seed(seed))


def hashed(ids: Tensor, parameters: Tensor, buckets: int) -> Tensor:
    """Buckets of numbers `[U]` under each of H hash functions, `[U, H]`: ((a n + b) mod p) mod buckets.

    >>> hashed(torch.arange(3), hashes(2, seed=0), 10).shape
    torch.Size([3, 2])
    """
    return (ids[:, None] * parameters[0] + parameters[1]) % PRIME % buckets
