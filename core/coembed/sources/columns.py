"""Columns: how one row of a table becomes a record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coembed.items import describe
from coembed.registry import near
from coembed.sources.base import Record

ROLES = ("id", "group", "label", "weight")
Towers = Mapping[str, str] | Sequence[str] | None


class SourceError(ValueError):
    """A file, or a row of one, that can't be read as records; the message names the place and what was expected."""


OnError = Literal["raise"] | Callable[[SourceError], None]


@dataclass(frozen=True)
class Columns:
    """Which column of a table holds what.

    `towers` maps tower names to columns (a list of names: column and tower are called the same). None says that the
    table is in coembed's own layout: columns `id`, `group`, `label` and `weight` are what they say, every other is a
    tower. With `towers`, only the columns that are named here are used, and the rest is kept in `Record.extra`. An
    `id` that a row lacks is its place in the table. `files` are the towers whose cells are paths, taken relative to
    `folder`. Raises ValueError for towers that are no mapping, or files that are no towers.

    >>> Columns({"text": "caption"}).record({"caption": "a cat", "lang": "en"}, "line 1", "1")
    Record(items={'text': 'a cat'}, id='1', group=None, label=None, weight=1.0, extra={'lang': 'en'})
    """

    towers: Towers = None
    id: str = "id"
    group: str | None = None
    label: str | None = None
    weight: str | None = None
    files: Sequence[str] = ()
    folder: Path = Path()

    def __post_init__(self) -> None:
        if isinstance(self.towers, str) or isinstance(self.files, str) or self.towers == {} or self.towers == []:
            wrong = "towers" if self.towers is None or not isinstance(self.files, str) else "files"
            raise ValueError(f"{wrong}={getattr(self, wrong)!r}: give tower names, as in towers={{'text': 'caption'}}")
        if self.towers is not None and not isinstance(self.towers, Mapping):
            object.__setattr__(self, "towers", {name: name for name in self.towers})
        if self.towers is not None:
            missing(self.files, tuple(self.towers), "files", "tower")

    @property
    def own(self) -> bool:
        """Whether the table is in coembed's own layout."""
        return self.towers is None

    def tower_columns(self, names: Iterable[str]) -> dict[str, str]:
        """Tower name to column, for a table that has these columns."""
        if isinstance(self.towers, Mapping):
            return dict(self.towers)
        roles = {*ROLES, self.id, self.group, self.label, self.weight}
        return {name: name for name in names if name not in roles}

    def needed(self) -> list[str]:
        """The columns that the table must have; `id` is not among them unless its name was chosen."""
        towers = list(self.towers.values()) if isinstance(self.towers, Mapping) else list(self.files)
        chosen = [self.id if self.id != "id" else None, self.group, self.label, self.weight]
        return towers + [name for name in chosen if name is not None]

    def check(self, names: Iterable[str], where: str) -> None:
        """Raise SourceError, with the near names, for a needed column that the table lacks."""
        try:
            missing(self.needed(), tuple(names), where, "column")
        except ValueError as error:
            raise SourceError(str(error)) from None

    def record(self, row: Mapping[str, Any], where: str, place: str) -> Record:
        """A row as a record; an empty cell is a tower that the record lacks.

        `where` begins error messages, `place` is the id of a row without one. Raises SourceError.
        """
        towers = self.tower_columns(row)
        items = {tower: self._item(tower, row[column], where) for tower, column in towers.items() if has(row, column)}
        group, label, weight = (self._role(role, given) for role, given in zip(ROLES[1:], self._chosen(), strict=True))
        used = {*towers.values(), self.id, group, label, weight}
        return Record(
            items,
            id=_word(row, self.id, where) or place,
            group=_word(row, group, where),
            label=_word(row, label, where),
            weight=_weight(row, weight, where),
            extra={name: cell for name, cell in row.items() if name not in used and has(row, name)},
        )

    def _chosen(self) -> tuple[str | None, str | None, str | None]:
        return self.group, self.label, self.weight

    def _role(self, role: str, given: str | None) -> str | None:
        return role if given is None and self.own else given

    def _item(self, tower: str, cell: Any, where: str) -> Any:
        if tower not in self.files:
            return cell
        if not isinstance(cell, str):
            raise SourceError(f"{where}: tower {tower!r} reads files, so a path is expected, got {describe(cell)}")
        return self.folder / cell


def missing(wanted: Sequence[str], names: Sequence[str], where: str, what: str) -> None:
    """Raise ValueError naming what is wanted but not there, and the near names."""
    for name in wanted:
        if name not in names:
            close = near(name, names)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {', '.join(names) or 'none'}"
            raise ValueError(f"{where}: no {what} {name!r}; {hint}")


def has(row: Mapping[str, Any], column: str | None) -> bool:
    """Whether a row has something in a column: not None, not the empty string, not NaN.

    >>> has({"a": ""}, "a"), has({"a": 0}, "a")
    (False, True)
    """
    cell = row.get(column) if column is not None else None
    return not (cell is None or (isinstance(cell, str) and cell == "") or (isinstance(cell, float) and cell != cell))


def _word(row: Mapping[str, Any], column: str | None, where: str) -> str | None:
    """An id, group or label: a string, or a whole number written as one."""
    if column is None or not has(row, column):
        return None
    cell = row[column]
    if isinstance(cell, float) and cell.is_integer():  # pandas turns an integer column with gaps into floats
        cell = int(cell)
    if isinstance(cell, bool) or not isinstance(cell, (str, int)):
        raise SourceError(f"{where}: column {column!r} must be a string or a whole number, got {describe(cell)}")
    return str(cell)


def _weight(row: Mapping[str, Any], column: str | None, where: str) -> float:
    if column is None or not has(row, column):
        return 1.0
    try:
        weight = float(row[column])
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise SourceError(f"{where}: column {column!r} must be a number of at least 0, got {describe(row[column])}")
    return weight
