"""What is one thing with what: records that are never each other's negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from coembed.encoder import Encoder
from coembed.sources import Record
from coembed.training.columns import Columns, linked

SAME = ("content", "id", "label", "group")


class Same:
    """Numbers of records, equal where they are one thing by `how`.

    "content": an item of one of the towers is equal, transitively; "id", "label", "group": that is equal, and a record
    without one is only like itself. `encoders` give items their content keys. Raises ValueError for another word.
    """

    def __init__(self, how: str, encoders: Mapping[str, Encoder]) -> None:
        if how not in SAME:
            raise ValueError(f"same={how!r}: use one of {', '.join(SAME)}")
        self.how, self.encoders = how, encoders

    def numbers(self, columns: Columns, at: Tensor, towers: Sequence[str], *, twice: bool = False) -> Tensor | None:
        """`[n]` for the records at these positions; None if no two are one thing.

        `twice` says that a position may occur more than once.
        """
        own = [at] if twice else []
        if self.how != "content":
            return linked([*own, columns.numbers(f"same {self.how}", at, self._name)])
        some = [tower for tower in towers if not columns.distinct(tower)]
        return linked([*own, *(self._contents(columns, at, tower) for tower in some)])

    def _contents(self, columns: Columns, at: Tensor, tower: str) -> Tensor:
        """Numbers of the items of a tower; a record without one is only like itself."""
        have = columns.having(tower)[at]
        if bool(have.all()):
            return columns.numbers(tower, at, partial(self._content, tower))
        found = -1 - at
        found[have] = columns.numbers(tower, at[have], partial(self._content, tower))
        return found

    def _content(self, tower: str, record: Record) -> bytes:
        try:
            return self.encoders[tower].key(record[tower])
        except TypeError:  # an item without a content key equals only itself
            return f"{tower}:{record.id}".encode()

    def _name(self, record: Record) -> str:
        return getattr(record, self.how) or record.id
