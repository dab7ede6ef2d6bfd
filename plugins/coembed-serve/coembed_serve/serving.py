"""A running server's parts, and what its answers are made of."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from coembed.index import Filter, FilterError
from coembed.items import BadItem
from coembed_serve import schemas, views
from coembed_serve.answering import Found, Key, Question, answer
from coembed_serve.batching import Batcher, Full
from coembed_serve.library import Library
from coembed_serve.maps import Map
from coembed_serve.media import Media
from coembed_serve.metrics import Metrics
from coembed_serve.problems import Problem
from coembed_serve.reading import bad_item
from coembed_serve.settings import Settings
from coembed_serve.shelves import Shelf

LONG = 3000  # letters of HTML that a hit brings along; more is asked for once it is looked at
SHOWN = 2000  # items whose content is remembered as it is shown
PAUSE = 10.0  # seconds between two maps, where indexes change all the time


@dataclass(frozen=True)
class Wanted:
    """What of a search goes beside its item."""

    to: tuple[str, ...]
    k: int
    where: str | None = None


class Serving:
    """What the routes use: the library, its queue, its files, its map, its figures."""

    def __init__(self, library: Library, settings: Settings) -> None:
        self.library, self.settings = library, settings
        self.metrics = Metrics()
        self._shown = lru_cache(SHOWN)(self._show)  # drawing a graph takes longer than finding it
        self.media = Media(settings, library.folder)
        self.map = Map(library, settings)
        self._changed = asyncio.Event()  # since the map was begun
        self._known = library.shelves
        self.pool = ThreadPoolExecutor(2, thread_name_prefix="coembed-serve-files")
        self.batcher = Batcher(partial(answer, library), most=settings.batch, wait=settings.wait, queue=settings.queue)
        self.batcher.on_batch = self.metrics.batch
        self.metrics.waiting.set_function(lambda: self.batcher.depth)
        self._count()

    def _count(self) -> None:
        for shelf in self.library:
            self.metrics.items.labels(shelf.name).set(len(shelf))

    async def refresh(self) -> None:
        """See what other processes have changed: who notices it opens it, all others are served what was there."""
        if self.library.changed():
            await asyncio.to_thread(self.library.refresh)
        if self.library.shelves is not self._known:
            self._known = self.library.shelves
            self._shown.cache_clear()
            self._count()
            self._changed.set()

    async def lay(self) -> None:
        """Make the map, and another one whenever indexes have changed; until that is there, the one before stays."""
        await self.map.make()
        while True:
            await self._changed.wait()
            self._changed.clear()
            fresh = Map(self.library, self.settings, self.map)
            fresh.on_use = self._use
            await fresh.make()
            await asyncio.sleep(PAUSE)

    def _use(self, fresh: Map) -> None:
        if fresh is not self.map:
            self.map = fresh
            self._shown.cache_clear()  # it holds on to the map before, and to the indexes of that

    def shelf(self, name: str) -> Shelf:
        """An index by name; raises Problem naming those that there are."""
        shelf = self.library.shelves.get(name)
        if shelf is None:
            there = ", ".join(self.library.shelves)
            raise Problem(404, f"there is no index {name!r}; there are {there}", item=name, expected=there)
        return shelf

    def row(self, shelf: Shelf, name: str) -> int:
        """The row of an id; raises Problem if it is not there."""
        row = shelf.row(name)
        if row is None:
            raise Problem(404, f"index {shelf.name} has no item {name!r}", item=name)
        return row

    def tower(self, name: str | None) -> str:
        """A tower's name; raises Problem naming those that there are."""
        towers = ", ".join(self.library.space)
        if name is None:
            raise Problem(422, f"tower: name the tower that reads it, of {towers}", item="tower", expected=towers)
        if name not in self.library.space.towers:
            raise Problem(422, f"there is no tower {name!r}; there are {towers}", item="tower", expected=towers)
        return name

    def wanted(self, to: list[str], k: int, where: str | None) -> Wanted:
        """Where and how much to search; raises Problem for what can't be."""
        names = tuple(dict.fromkeys(self.shelf(name).name for name in to)) or tuple(self.library.shelves)
        if not 1 <= k <= self.settings.shown:
            raise Problem(422, f"k: {k} is not 1 to {self.settings.shown}", item="k", expected=self.settings.shown)
        if where is not None and where.strip():
            try:
                Filter(where)
            except FilterError as error:
                raise Problem(422, f"where: {error}", item="where") from error
            return Wanted(names, k, where)
        return Wanted(names, k)

    async def search(self, key: Key, item: Any, wanted: Wanted, label: str, items: int = 1) -> schemas.Results:
        """Ask the queue; raises Problem for a full queue, and for an item that the tower can't take."""
        began = time.perf_counter()
        try:
            found: list[Found] = await self.batcher.ask(key, Question(item, wanted.to, wanted.k, wanted.where))
        except Full as error:
            raise Problem(503, f"the server is busy: {error}", retry_after=1) from error
        except BadItem as error:
            raise bad_item(error, label) from error
        except ValueError as error:
            raise Problem(422, f"{label}: {error}", item=label) from error
        loop, drawn = asyncio.get_running_loop(), self.map
        parts = await loop.run_in_executor(self.pool, lambda: [self._hits(each, drawn) for each in found])
        parts.sort(key=lambda part: -(part.standout if part.standout is not None else -1e9))
        took = round((time.perf_counter() - began) * 1000, 1)
        return schemas.Results(tower=key[0], items=items, milliseconds=took, edition=drawn.edition, found=parts)

    def _hits(self, found: Found, drawn: Map) -> schemas.Hits:
        shelf = found.shelf
        hits = []
        for hit in found.hits:
            shown = self._shown(shelf, hit.id, drawn)
            hits.append(schemas.Hit(id=hit.id, score=hit.score, standout=found.standout(hit.score), **shown))
        best = hits[0].standout if hits else None
        return schemas.Hits(index=shelf.name, tower=shelf.tower, kind=shelf.kind, standout=best, hits=hits)

    def item(self, shelf: Shelf, row: int) -> schemas.Item:
        """An indexed item, as the API gives it."""
        name = shelf.id(row)
        shown = self._shown(shelf, name, self.map)
        return schemas.Item(index=shelf.name, tower=shelf.tower, kind=shelf.kind, id=name, **shown)

    def _show(self, shelf: Shelf, name: str, drawn: Map) -> dict[str, Any]:
        """An item as a person sees it."""
        row = shelf.row(name)
        payload = None if row is None else shelf.payload(row, self.library.space.dim)
        title, file = views.caption(name, payload), self.media.file(payload, shelf.folder)
        address = f"{shelf.name}?{urlencode({'id': name})}"
        media = f"api/media/{address}" if file is not None else None
        html = views.view(shelf.kind, shelf.tower, payload)
        if html is None and media is not None and shelf.kind == "image":
            html = views.picture(title, media)
        later = html is None and media is not None and shelf.kind in views.NEED_FILE
        if html is not None and len(html) > LONG:
            html, later = None, True
        return {
            "caption": title,
            "payload": views.plain(payload),
            "point": None if row is None else drawn.number(shelf, row),
            "media": media,
            "view": html,
            "view_at": f"api/views/{address}" if later else None,
            "withheld": html is None and not later and self.media.withheld(payload),
        }

    def file(self, shelf: Shelf, name: str) -> Path:
        """The file of an item; raises Problem if there is none that may be shown."""
        payload = shelf.payload(self.row(shelf, name), self.library.space.dim)
        found = self.media.file(payload, shelf.folder)
        if found is None:
            raise Problem(404, f"{name} has no file that may be shown; --media allows folders", item=name)
        return found

    def view(self, shelf: Shelf, name: str) -> str:
        """An item's content as HTML, from its payload or its file."""
        html = views.view(shelf.kind, shelf.tower, shelf.payload(self.row(shelf, name), self.library.space.dim))
        if html is not None:
            return html
        address = f"api/media/{shelf.name}?{urlencode({'id': name})}"
        file, encoder = self.file(shelf, name), self.library.space[shelf.tower].encoder
        return views.file_view(shelf.kind, name, file, encoder, address, self.settings)
