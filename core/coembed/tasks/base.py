"""Task: what one training step optimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from coembed.depths import Cut, Exits
from coembed.embedding import Embedding
from coembed.sources import Record, Source
from coembed.sources.given import source_from
from coembed.training.batches import Batches, Mixed
from coembed.training.columns import Columns

if TYPE_CHECKING:
    from coembed.space import Space


class Embed(Protocol):
    """The trainer's way to turn rows of the batch into embeddings of a tower, of several layers with `exits`."""

    def __call__(self, name: str, rows: Sequence[int], role: str | None, exits: Exits | None = None) -> Embedding:
        """Rows of the batch through the tower `name`."""


class Task(nn.Module, ABC):
    """One way to learn from one source; `weight` is its share of the steps beside other tasks.

    Its parameters (a temperature, a throw-away head) train with the towers.
    """

    def __init__(self, source: Source, towers: Sequence[str], *, weight: float = 1.0) -> None:
        super().__init__()
        if weight <= 0:
            raise ValueError(f"task weight {weight} must be positive")
        self.source, self.towers, self.weight = source_from(source), tuple(towers), weight
        self.batches: Batches = Mixed()

    @property
    def dims(self) -> tuple[int, ...]:
        """The widths (Matryoshka sizes) that this task trains vectors to be cut to."""
        return ()

    def cuts(self, space: Space, tower: str) -> tuple[Cut, ...]:
        """The sizes (layer, width) that this task trains a tower's vectors to be cut to, beside `dims`."""
        return ()

    def prepare(self, space: Space) -> None:
        """Check the towers and build what depends on the encoders; called once before training.

        Raises KeyError naming a tower that the space lacks.
        """
        for tower in self.towers:
            space[tower]

    @abstractmethod
    def usable(self, record: Record) -> bool:
        """Whether a record can be part of this task's batches."""

    def candidate(self, record: Record) -> bool:
        """Whether a record that is not usable can still be a negative of others."""
        return False

    def attach(self, columns: Columns) -> None:
        """Look at the records, once they are read; called once before training."""
        self.batches.attach(columns)

    def refresh(self, space: Space, columns: Columns, progress: bool) -> None:
        """Look again, with the space as it is at the start of a stage; of several processes the first does."""

    @property
    def further(self) -> int:
        """How many records a batch needs at most for each of its own, beside it."""
        return 0

    def hard(self, columns: Columns, at: Sequence[int], seed: int) -> Tensor | None:
        """The positions `[B, k]` of hard negatives of the records at `at`, -1 for none; None for a task without."""
        return None

    @abstractmethod
    def loss(self, records: Sequence[Record], embed: Embed, space: Space) -> Tensor:
        """The loss of a batch, a scalar."""

    def describe(self) -> dict[str, Any]:
        """Facts for the card and for telling a changed run from the same one; plain JSON types."""
        return {"task": type(self).__name__, "towers": list(self.towers), "weight": self.weight}
