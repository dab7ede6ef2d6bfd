"""What is served: a space and shelves of its towers, each opened anew once another process has changed its index."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from coembed.cli.index import state
from coembed.index import Index, open_index
from coembed.index.folder import FACTS, read_facts
from coembed.space import Space
from coembed_serve.shelves import Seen, Shelf, gives_vectors

KINDS = ("text", "image", "code", "audio", "dna", "protein", "graph")  # what items are shown as

_log = logging.getLogger("coembed_serve")


class Library:
    """A space and its shelves by name.

    A shelf is replaced whole by `refresh`, so that whoever holds one goes on with the index as it was.
    """

    def __init__(self, space: Space, folder: Path, shelves: Sequence[Shelf]) -> None:
        self.space, self.folder = space, folder
        self.shelves = {shelf.name: shelf for shelf in shelves}  # never changed, only replaced
        self._seen = {shelf.name: shelf.seen or seen(shelf.folder) for shelf in shelves}
        self._states = {shelf.tower: _state(folder, shelf.tower) for shelf in shelves}  # of the space that was loaded
        self._reading = threading.Lock()

    def __iter__(self) -> Iterator[Shelf]:
        return iter(self.shelves.values())

    def __len__(self) -> int:
        return sum(len(shelf) for shelf in self)

    def changed(self) -> bool:
        """Whether an index on disk is another one than when it was last looked at; costs one stat an index."""
        return any(seen(shelf.folder) != self._seen[shelf.name] for shelf in self)

    def refresh(self) -> None:
        """Open what has changed, unless another thread is at it.

        An index that can't be read, or is of a space trained anew, is not taken, with a warning: the one that was
        served before stays, until the index changes again.
        """
        if not self._reading.acquire(blocking=False):
            return
        try:
            for shelf in self:
                now = seen(shelf.folder)  # before it is read: what comes later is seen next time
                if now != self._seen[shelf.name]:
                    self._replace(shelf)
                    self._seen[shelf.name] = now
        finally:
            self._reading.release()

    def _replace(self, shelf: Shelf) -> None:
        try:
            if str(read_facts(shelf.folder)["version"]) == shelf.version:
                return
            index, version, now = opened(shelf.folder)
            self._check(index, shelf)
            fresh = Shelf(shelf.name, shelf.tower, shelf.kind, shelf.folder, index, version, gives_vectors(index), now)
        except Exception as error:  # a damaged index raises anything: requests go on with what was there
            _log.warning("%s has changed, and is served as it was before: %s", shelf.folder, error)
            return
        self.shelves = self.shelves | {shelf.name: fresh}

    def _check(self, index: Index, shelf: Shelf) -> None:
        """Raise ValueError for an index of vectors that do not fit those of the space in memory."""
        if index.meta.get("tower") != shelf.index.meta.get("tower"):
            raise ValueError(f"it is of tower {index.meta.get('tower')!r} now: start the server again")
        if index.meta.get("state") not in (None, shelf.index.meta.get("state"), self._states[shelf.tower]):
            raise ValueError("the space was trained anew: start the server again")


def open_library(space: Space, folder: Path, indexes: Sequence[str]) -> Library:
    """The space with the given indexes (`FOLDER`, or `TOWER=FOLDER` where it does not say its tower itself).

    Without any, those in the space's own folder. Raises ValueError for an index of no tower of the space, and where
    there is none.
    """
    order = {name: at for at, name in enumerate(space)}
    inside = sorted((path.parent for path in (folder / "index").glob("*/index.json")), key=lambda path: path.name)
    inside.sort(key=lambda path: order.get(path.name, len(order)))
    shelves: list[Shelf] = []
    for given in indexes or [str(path) for path in inside]:
        prefix, sign, rest = given.partition("=")
        named = bool(sign) and prefix in space.towers
        shelves.append(_shelf(space, prefix if named else None, Path(rest if named else given), shelves))
    if not shelves:
        raise ValueError(f"{folder} has no index: make one by `coembed index {folder} --tower NAME INPUT…`")
    return Library(space, folder, shelves)


def opened(folder: Path) -> tuple[Index, str, Seen]:
    """An index, its version and what is `seen` of it; raises as `open_index`."""
    while True:  # another process may replace it between the readings
        now, version = seen(folder), str(read_facts(folder)["version"])
        index = open_index(folder)
        if read_facts(folder)["version"] == version:
            return index, version, now


def seen(folder: Path) -> Seen:
    """What tells an index from a later one without reading it: a change puts a new file in index.json's place."""
    try:
        found = (folder / FACTS).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _shelf(space: Space, tower: str | None, folder: Path, others: Sequence[Shelf]) -> Shelf:
    index, version, now = opened(folder)
    tower = tower or index.meta.get("tower")
    if tower is None:
        raise ValueError(f"{folder} does not say whose vectors it holds: give it as TOWER={folder}")
    if tower not in space.towers:
        raise ValueError(f"{folder} is an index of tower {tower}; the space has {', '.join(space)}")
    same = sum(shelf.tower == tower for shelf in others)
    name = f"{tower}-{same + 1}" if same else tower
    # A text encoder may well read code: what its tower is called says more of what to show than what it reads.
    kind = tower if tower in KINDS else space[tower].encoder.spec.modality
    return Shelf(name, tower, kind, folder, index, version, gives_vectors(index), now)


def _state(folder: Path, tower: str) -> str | None:
    with suppress(OSError, ValueError, KeyError):  # a space that was never saved there
        return state(folder, tower)
    return None
