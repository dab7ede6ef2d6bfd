"""Record and Source: what training and evaluation read."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from coembed.arguments import items_list
from coembed.items import describe
from coembed.spec import Spec


@dataclass(frozen=True)
class Record:
    """Items of one thing, by tower name, with what splits, masks and miners read beside them.

    `id` is unique in its source, `group` keeps near-duplicates on one side of a split (None: the id), `label` marks
    records that match each other, `weight` scales the record's loss, `extra` is payload that no tower reads.

    >>> Record({"image": "cat.png", "text": "a cat"}, id="cat")["text"]
    'a cat'
    """

    items: Mapping[str, Any]
    id: str
    group: str | None = None
    label: str | None = None
    weight: float = 1.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, tower: str) -> Any:
        return self.items[tower]

    def __contains__(self, tower: str) -> bool:
        return tower in self.items


class Source(ABC):
    """A re-iterable of records; an author writes `__iter__`, and may override `__len__`, `__getitem__`.

    A record may lack towers. Iterating twice gives the same records in the same order.

    >>> source = Records([Record({"text": "a"}, id="1"), Record({"text": "b"}, id="2")])
    >>> len(source), source[1]["text"], source.towers
    (2, 'b', ('text',))
    """

    spec: Spec | None = None

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """An instance for the conformance kit, which may write what it reads to `folder`."""
        return cls()

    _cached: Sequence[Record] | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[Record]: ...

    def _records(self) -> Sequence[Record]:
        if self._cached is None:
            self._cached = list(iter(self))  # list(self) would ask for the length, which asks for the list
        return self._cached

    def __len__(self) -> int:
        return len(self._records())

    def __getitem__(self, position: int) -> Record:
        return self._records()[position]

    @property
    def towers(self) -> tuple[str, ...]:
        """The tower names that any record has, in order of first appearance."""
        return tuple(dict.fromkeys(name for record in self for name in record.items))

    def split(self, held_out: float = 0.1, seed: int = 0) -> tuple[Records, Records]:
        """Train and held-out records, whole groups on one side, chosen by a hash: stable when records are added.

        `held_out` is the share of groups, in 0..1. Raises ValueError for another share or if a side is empty.

        >>> source = Records([Record({"text": str(i)}, id=str(i), group=str(i // 2)) for i in range(100)])
        >>> train, held = source.split(0.2)
        >>> {r.group for r in train} & {r.group for r in held}
        set()
        """
        if not 0 < held_out < 1:
            raise ValueError(f"held_out {held_out} must lie between 0 and 1")
        sides: tuple[list[Record], list[Record]] = ([], [])
        for record in self:
            sides[_share(record.group if record.group is not None else record.id, seed) < held_out].append(record)
        if not sides[0] or not sides[1]:
            groups = len({record.group or record.id for record in self})
            empty = "train" if not sides[0] else "held-out"
            raise ValueError(f"split({held_out}): the {empty} side is empty, there are only {groups} groups")
        return Records(sides[0]), Records(sides[1])

    def map(self, change: Callable[[Record], Record]) -> Records:
        """A source of changed records, such as items read or described.

        >>> Records([Record({"text": "a"}, id="1")]).map(lambda r: Record({"code": r["text"]}, id=r.id))[0]["code"]
        'a'
        """
        return Records([change(record) for record in self])

    def rename(self, names: Mapping[str, str]) -> Records:
        """The same records with towers renamed; unnamed towers stay.

        >>> Records([Record({"image": 1}, id="1")]).rename({"image": "picture"}).towers
        ('picture',)
        """
        from dataclasses import replace

        return self.map(lambda r: replace(r, items={names.get(name, name): item for name, item in r.items.items()}))


def _share(group: str, seed: int) -> float:
    """A group's place in 0..1: uniform, and the same in every run and on every machine."""
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


class Records(Source):
    """Records in a list.

    Raises ValueError naming an id that occurs twice.

    >>> Records.pairs(image=["cat.png"], text=["a cat"])[0].items
    {'image': 'cat.png', 'text': 'a cat'}
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._list = list(records)
        seen: set[str] = set()
        for position, record in enumerate(self._list):
            if not isinstance(record, Record):
                raise TypeError(
                    f"Records: element {position} is {describe(record)}, not a Record: Record({{'text': …}}, id='0') "
                    "makes one, and Records.pairs(image=[…], text=[…]) makes all of them from columns"
                )
            if record.id in seen:
                raise ValueError(f"record id {record.id!r} occurs twice: ids must be unique in a source")
            seen.add(record.id)

    @classmethod
    def pairs(
        cls,
        *,
        ids: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        **towers: Sequence[Any],
    ) -> Records:
        """Records from one list of items a tower, all of equal length.

        >>> len(Records.pairs(text=["a", "b"], code=["x", "y"]))
        2
        """
        if not towers:
            raise ValueError("Records.pairs: no columns: give a list for each tower, such as image=[…], text=[…]")
        for name, column in towers.items():
            if isinstance(column, (str, bytes)):  # anything else with a length may be a column: arrays, lists
                items_list(column, f"Records.pairs, {name}")
        lengths = {name: len(column) for name, column in towers.items()}
        lengths |= {n: len(c) for n, c in (("ids", ids), ("groups", groups), ("labels", labels)) if c is not None}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"Records.pairs: columns differ in length: {lengths}")
        return cls(
            Record(
                {name: column[i] for name, column in towers.items()},
                id=ids[i] if ids is not None else str(i),
                group=groups[i] if groups is not None else None,
                label=labels[i] if labels is not None else None,
            )
            for i in range(next(iter(lengths.values())))
        )

    def __iter__(self) -> Iterator[Record]:
        return iter(self._list)

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, position: int) -> Record:
        return self._list[position]
