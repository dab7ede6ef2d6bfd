"""The shards of one setting, and the index that finds a row among them by its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from coembed import weights
from coembed.shards import SUFFIX, Shard, check, halves, join, metadata, read, write, write_whole

State = tuple[int, int]  # of a file: size, time of change
Added = dict[str, tuple[State, np.ndarray]]  # of new shards: state, keys

INDEX = f"index{SUFFIX}"
SMALL = 128 << 20  # bytes of a file below half of which it may be joined with others
MANY = 8  # small shards that are too many


@dataclass(frozen=True, eq=False)
class Table:
    """Keys of all rows in order of their first half, and where each row is: `shard` (by place in `names`), `row`.

    `names` maps the shards' names to (size, time of change) of the file when its content was verified.
    """

    names: dict[str, State] = field(default_factory=dict)
    keys: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.uint64))
    shard: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    row: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The places of keys `[N, 16]` in this table, -1 where it lacks one."""
        wanted = halves(keys)
        at, order = np.empty(len(wanted), np.int64), np.argsort(wanted[:, 0])
        at[order] = np.searchsorted(self.keys[:, 0], wanted[order, 0])  # in order, since neighbours are cached
        found = np.full(len(wanted), -1)
        left = np.arange(len(wanted))
        while len(left):  # keys may share their first half: go on to the next place while they do
            left = left[at[left] < len(self.keys)]
            here = self.keys[at[left]]
            left, here = left[here[:, 0] == wanted[left, 0]], here[here[:, 0] == wanted[left, 0]]
            same = here[:, 1] == wanted[left, 1]
            found[left[same]] = at[left[same]]
            left = left[~same]
            at[left] += 1
        return found

    def kept(self, names: Iterable[str]) -> Table:
        """Without the rows of other shards."""
        kept = {name: self.names[name] for name in names}
        number = np.array([list(kept).index(n) if n in kept else -1 for n in self.names], np.int32)
        shard = number[self.shard] if len(number) else self.shard
        here = shard >= 0
        return Table(kept, self.keys[here], shard[here], self.row[here])

    def with_shards(self, added: Added) -> Table:
        """With the keys of further shards: name to (state of the file, keys); a key that is there stays where it is."""
        names = {**self.names, **{name: state for name, (state, _) in added.items()}}
        number = {name: i for i, name in enumerate(names)}
        columns = [(self.keys, self.shard, self.row)]
        for name, (_, keys) in added.items():
            columns.append((halves(keys), np.full(len(keys), number[name], np.int32), np.arange(len(keys))))
        keys, shard, row = (np.concatenate(column) for column in zip(*columns, strict=True))
        order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: of equal keys the first stays first
        keys = keys[order]
        first = np.ones(len(keys), bool)
        first[1:] = (keys[1:] != keys[:-1]).any(1)
        return Table(names, keys[first], shard[order][first], row[order][first])


class ShardFolder:
    """A folder of shards that several processes may write and read at once.

    There are no locks: shards appear whole, under names of what they hold, and never change; the index is derived from
    them, so that a lost or old one only costs reading the keys again. What another process has removed or joined with
    others is found by looking again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = Table()
        self._open: dict[str, Shard] = {}
        self._written: Added = {}

    def refresh(self) -> None:
        """See what is there now: shards that are new or changed are verified, damaged ones deleted."""
        there = self._states()
        before = self.table if self.table.names else _read_index(self.path / INDEX)
        kept = [name for name, state in before.names.items() if there.get(name) == state]
        table = before if len(kept) == len(before.names) else before.kept(kept)
        added: Added = {}
        for name in [name for name in there if name not in table.names]:
            try:
                added[name] = (there[name], read(self.path / name, verify=True).keys)
            except weights.WeightsError:
                (self.path / name).unlink(missing_ok=True)
        self._open = {name: shard for name, shard in self._open.items() if name in table.names}
        self.table = table.with_shards(added) if added else table
        if self.table is not before:
            _write_index(self.path / INDEX, self.table)

    def write(self, parts: Sequence[Shard]) -> None:
        """Write rows as one shard; `settle` makes what was written known."""
        if parts:
            shard = join((part, torch.arange(len(part))) for part in parts)
            path = write(self.path, hashlib.blake2b(shard.keys.tobytes(), digest_size=16).hexdigest(), shard)
            with suppress(FileNotFoundError):  # another process has joined it with others already
                self._written[path.name] = (_state(path), shard.keys)

    def settle(self) -> None:
        """Know the written rows, without reading them again; where there are many small shards, join them."""
        if self._written:
            self.table = self.table.with_shards(self._written)
            self._join_small()
            self._written = {}
            _write_index(self.path / INDEX, self.table)

    def shard(self, name: str) -> Shard:
        """A shard, mapped; raises WeightsError if it is gone or cut off."""
        if name not in self._open:
            try:
                self._open[name] = read(self.path / name)
            except weights.WeightsError:
                (self.path / name).unlink(missing_ok=True)  # cut off: its rows are computed again
                raise
        return self._open[name]

    def _states(self) -> dict[str, State]:
        found: dict[str, State] = {}
        with suppress(FileNotFoundError):
            for path in sorted(self.path.glob(f"*{SUFFIX}")):
                if path.name != INDEX and not path.name.startswith("."):
                    with suppress(FileNotFoundError):
                        found[path.name] = _state(path)
        return found

    def _join_small(self) -> None:
        """Join small shards into larger ones, and delete those that were joined: their rows are in both meanwhile."""
        small = {name: size for name, (size, _) in self.table.names.items() if size < SMALL // 2}
        if len(small) <= MANY:
            return
        groups: list[list[str]] = [[]]
        for name, size in small.items():
            if groups[-1] and sum(small[n] for n in groups[-1]) + size > SMALL:
                groups.append([])
            groups[-1].append(name)
        with suppress(weights.WeightsError):  # another process is at the same work: `refresh` finds what it made
            for group in groups:
                if len(group) > 1:
                    self._join(group)

    def _join(self, group: list[str]) -> None:
        shards = [self.shard(name) for name in group]
        # Of a row that several processes computed one copy is kept: a table of the group alone tells which.
        own = Table().with_shards({name: ((0, 0), shard.keys) for name, shard in zip(group, shards, strict=True)})
        rows = [torch.from_numpy(np.sort(own.row[own.shard == i])) for i in range(len(group))]
        self._written = {}
        self.write([join([part]) for part in zip(shards, rows, strict=True)])
        self.table = self.table.kept([n for n in self.table.names if n not in group]).with_shards(self._written)
        for name in set(group) - self._written.keys():
            self._open.pop(name, None)
            (self.path / name).unlink(missing_ok=True)


def _state(path: Path) -> State:
    """Size and time of change: what tells a file that was verified from one that was written since."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _write_index(path: Path, table: Table) -> None:
    tensors = {
        "keys": torch.from_numpy(table.keys.view(np.int64)),
        "shard": torch.from_numpy(table.shard),
        "row": torch.from_numpy(table.row),
    }
    facts = {"names": json.dumps(table.names), "check": check(tensors.values())}
    write_whole(path, lambda part: weights.save(tensors, part, facts))


def _read_index(path: Path) -> Table:
    """The index as it was written; an empty one where it is missing or damaged."""
    try:
        tensors = weights.read(path)
        facts = metadata(path)
        names = {name: (int(size), int(time)) for name, (size, time) in json.loads(facts["names"]).items()}
        parts = [tensors[name] for name in ("keys", "shard", "row")]
        if check(parts) != facts["check"]:
            return Table()
    except (weights.WeightsError, KeyError, ValueError):
        return Table()
    keys, shard, row = (part.numpy() for part in parts)
    return Table(names, keys.view(np.uint64), shard, row)
