"""Pretext: one tower learns from its own items."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from coembed.sources import Record, Source
from coembed.spec import Spec
from coembed.tasks.base import Embed, Task

if TYPE_CHECKING:
    from coembed.encoder import Encoder
    from coembed.space import Space


class Pretext(Task):
    """One tower learns from its own items: a collator, a head that is thrown away.

    An author writes `build_head` (called once the encoder is known), `collate_items` and `item_loss`. Of several
    processes each computes the loss of its own items, unless `additive` is False: where items of a batch are compared
    with each other, every process computes the whole.
    """

    spec: Spec | None = None
    additive: bool = True  # a batch's loss is the mean of its items'

    def __init__(self, source: Source, tower: str, *, weight: float = 1.0) -> None:
        super().__init__(source, (tower,), weight=weight)
        self.tower = tower

    @classmethod
    @abstractmethod
    def tiny(cls, folder: Path) -> Self:
        """A small instance with a source of its own, for the conformance kit."""

    @classmethod
    @abstractmethod
    def tiny_encoder(cls) -> Encoder:
        """A small encoder of the kind that this pretext teaches, for the conformance kit."""

    def prepare(self, space: Space) -> None:
        """Build the head; the tower's encoder must train."""
        super().prepare(space)
        if space[self.tower].frozen:
            raise ValueError(f"a pretext on tower {self.tower} needs an encoder that trains: give it train='all'")
        self.build_head(space[self.tower].encoder)

    def usable(self, record: Record) -> bool:
        """Whether the record has an item for the tower."""
        return self.tower in record

    def loss(self, records: Sequence[Record], embed: Embed, space: Space) -> Tensor:
        """Collate with the pretext's own collator, then its own loss."""
        encoder = space[self.tower].encoder
        batch = self.collate_items(encoder, [record[self.tower] for record in records])
        return self.item_loss(encoder, {name: tensor.to(encoder.device) for name, tensor in batch.items()})

    @abstractmethod
    def build_head(self, encoder: Encoder) -> None:
        """Make the modules that the loss needs beside the encoder."""

    @abstractmethod
    def collate_items(self, encoder: Encoder, items: Sequence[Any]) -> dict[str, Tensor]:
        """Items to a batch, with what is masked or asked in it; randomness by torch's generator, seeded per step."""

    @abstractmethod
    def item_loss(self, encoder: Encoder, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of a batch, a scalar."""
