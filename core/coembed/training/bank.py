"""Bank: vectors of earlier batches as further negatives (cross-batch memory)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from coembed.arguments import number
from coembed.embedding import Embedding
from coembed.training.steady import Steady


@dataclass(frozen=True)
class Memory:
    """The last `size` vectors of the target, none of them older than `age` steps (None: whatever their age).

    They move no longer, while the towers do: the faster a space changes, the lower the age should be. Raises ValueError
    for numbers below 1. Source: Wang et al. 2020, Cross-Batch Memory for Embedding Learning, section 3.2; the queue of
    He et al. 2020, MoCo, without its second encoder.

    >>> Memory(4096, age=50).describe()
    {'size': 4096, 'age': 50}
    """

    size: int
    age: int | None = None

    def __post_init__(self) -> None:
        number("size of a memory", self.size, whole=True, least=1)
        if self.age is not None:
            number("age of a memory", self.age, whole=True, least=1)

    def describe(self) -> dict[str, Any]:
        """Its settings."""
        return asdict(self)


class Bank(Steady):
    """A ring of `[size, D]` vectors, each with its record's position and the step it comes from (-1: empty).

    >>> bank = Bank(Memory(2, age=1), dim=1)
    >>> for step in range(3):
    ...     bank.push(torch.full((1, 1), float(step)), torch.tensor([step]), step)
    >>> [x.flatten().tolist() for x in bank.taken(3)]  # of steps 1 and 2 the younger is not too old
    [[2.0], [2]]
    """

    vectors: Tensor
    positions: Tensor
    steps: Tensor
    head: Tensor

    def __init__(self, memory: Memory, dim: int) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("vectors", torch.zeros(memory.size, dim))
        self.register_buffer("positions", torch.full((memory.size,), -1))
        self.register_buffer("steps", torch.full((memory.size,), -1))
        self.register_buffer("head", torch.zeros((), dtype=torch.int64))

    def taken(self, step: int) -> tuple[Tensor, Tensor]:
        """The vectors `[n, D]` that are young enough before step `step`, and their records' positions `[n]`."""
        kept = self.positions >= 0
        if self.memory.age is not None:
            kept &= self.steps >= step - self.memory.age
        return self.vectors[kept], self.positions[kept]

    @torch.no_grad()
    def push(self, vectors: Tensor, positions: Tensor, step: int) -> None:
        """Put vectors of step `step` in the place of the oldest."""
        size = self.memory.size
        last, at = vectors[-size:], positions[-size:]
        places = (self.head + torch.arange(len(last), device=self.head.device)) % size
        self.vectors[places] = last.detach().to(self.vectors)
        self.positions[places] = at.to(self.positions)
        self.steps[places] = step
        self.head.add_(len(last)).remainder_(size)


def as_embedding(vectors: Tensor, like: Embedding) -> Embedding:
    """Stored vectors as rows beside those of a batch: on its device, of its type, without gradient."""
    return Embedding.from_vectors(vectors.to(like.values))
