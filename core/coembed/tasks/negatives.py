"""What a contrast compares its rows with beside each other: further columns, and which of them count."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from coembed.depths import exiting
from coembed.embedding import Embedding
from coembed.objectives import Objective
from coembed.training.bank import Bank, Memory, as_embedding

if TYPE_CHECKING:
    from coembed.space import Space

Columns = tuple[Embedding, Tensor]  # rows of the target's side and their records' positions


class Banks(nn.Module):
    """A bank for each target of a contrast; none without `memory`."""

    def __init__(self, memory: Memory | int | None, targets: Collection[str]) -> None:
        super().__init__()
        self.memory = Memory(memory) if isinstance(memory, int) else memory
        self.targets = frozenset(targets) if memory is not None else frozenset()
        self._of = nn.ModuleDict()

    def prepare(self, space: Space, objective: Objective) -> None:
        """Empty banks for the space's vectors; raises ValueError for a target that gives them after several layers."""
        if self.memory is None:
            return
        for tower in sorted(self.targets):
            if objective.layered and exiting(space[tower]):
                name = objective.spec.name if objective.spec else type(objective).__name__
                raise ValueError(
                    f"memory={self.memory.size} keeps one vector a row, but {name} trains tower {tower} at several "
                    "layers: leave memory out and give negatives= or a larger batch, or an objective of the full depth "
                    "(matryoshka for widths alone)"
                )
        self._of = nn.ModuleDict({tower: Bank(self.memory, space.dim) for tower in sorted(self.targets)})

    def taken(self, tower: str, step: int, like: Embedding) -> list[Columns]:
        """The vectors of a tower that a step may compare with, as rows like those of the batch, if there are any."""
        if tower not in self.targets:
            return []
        vectors, positions = self._bank(tower).taken(step)
        return [(as_embedding(vectors, like), positions.cpu())] if len(vectors) else []

    def push(self, tower: str, rows: Embedding, positions: Tensor, step: int) -> None:
        """Keep a batch's vectors; raises ValueError for rows of several vectors."""
        if not rows.single:
            raise ValueError(
                f"a memory keeps one vector a row, tower {tower} gives up to {rows.mask.shape[1]}: pool them, or use "
                "negatives= and a larger batch"
            )
        there = rows.present
        self._bank(tower).push(rows.vectors[there], positions[there.cpu()], step)

    def _bank(self, tower: str) -> Bank:
        bank = self._of[tower]
        assert isinstance(bank, Bank)
        return bank


def further(parts: Sequence[Columns]) -> tuple[Embedding | None, Tensor]:
    """The columns behind those of the batch, and the positions of their records."""
    if not parts:
        return None, torch.zeros(0, dtype=torch.int64)
    return Embedding.cat([rows for rows, _ in parts]), torch.cat([at for _, at in parts])


def left_out(
    at: Tensor, beyond: Tensor, numbers: Tensor | None, only: Tensor | None, device: torch.device
) -> tuple[Tensor | None, Tensor | None]:
    """Keys and mask of an objective for rows of the records `at` and further columns of the records `beyond`.

    `numbers` `[B + N]` are equal for what is one thing, or None. With `only` `[B, k]`, positions of records, every
    other column is left out.

    >>> at, beyond = torch.tensor([0, 1]), torch.tensor([5, 6])
    >>> left_out(at, beyond, None, torch.tensor([[6], [0]]), at.device)[1].int()
    tensor([[1, 1, 1, 0],
            [0, 1, 1, 1]], dtype=torch.int32)
    """
    size = len(at)
    keys = None if numbers is None else numbers[:size].to(device)
    alike = None
    if numbers is not None and len(beyond):
        found = numbers.to(device)
        alike = found[:size, None] == found[size:]
        keys = keys if keys is not None and len(keys.unique()) < size else None
    if only is None:
        if alike is None or not alike.any():
            return keys, None
        return keys, torch.cat([alike.new_zeros(size, size), alike], dim=1)
    columns = torch.cat([at, beyond]).to(device)
    mask = torch.ones(size, len(columns), dtype=torch.bool, device=device)
    for own in only.to(device).T:
        mask &= own[:, None] != columns
    if alike is not None:
        mask[:, size:] |= alike
    return keys, mask
