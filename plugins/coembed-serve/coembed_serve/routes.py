"""The paths of the API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response

import coembed
from coembed.encoder import Encoder
from coembed_serve import schemas
from coembed_serve.guard import COOKIE, same, session
from coembed_serve.media import media_type, thumbnail
from coembed_serve.problems import Problem
from coembed_serve.reading import takes_strings, typed, uploaded
from coembed_serve.serving import Serving

T = TypeVar("T")
ITEM = Annotated[str, Query(description="the item's id", max_length=4096)]
TROUBLES: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Trouble, "description": text}
    for status, text in {
        413: "too large",
        422: "an item or argument that can't be taken",
        429: "too many requests of this client; Retry-After says when",
        503: "too many requests wait; Retry-After says when",
        504: "no answer in time",
    }.items()
}


def routes(serving: Serving) -> APIRouter:
    """All paths but the page's."""
    router = APIRouter(dependencies=[Depends(serving.refresh)])
    settings, space = serving.settings, serving.library.space

    @router.post(
        "/api/search",
        responses=TROUBLES,
        tags=["search"],
        summary="Search by a typed or an indexed item",
        response_model=schemas.Results,
    )
    async def search(asked: schemas.Search) -> Response:
        wanted = serving.wanted(asked.to, asked.k, asked.where)
        if (asked.text is None) == (asked.like is None):
            raise Problem(422, "give `text` (with its tower) or `like`, one of them", item="text")
        if asked.like is not None:
            shelf = serving.shelf(asked.like.index)
            serving.row(shelf, asked.like.id)
            vector = shelf.vector(asked.like.id)
            if vector is None:
                kind = shelf.index.kind
                raise Problem(422, f"index {shelf.name} (of kind {kind}) gives no vectors out", item=shelf.name)
            return _given(await serving.search((None, None), vector, wanted, asked.like.id))
        tower = serving.tower(asked.tower)
        encoder = space[tower].encoder
        _role(encoder, asked.role)
        item = typed(tower, encoder, asked.text or "", settings)
        return _given(await serving.search((tower, asked.role), item, wanted, "text"))

    @router.post(
        "/api/search/file",
        responses=TROUBLES,
        tags=["search"],
        summary="Search by a file",
        response_model=schemas.Results,
    )
    async def search_file(
        file: Annotated[UploadFile, File(description="a file of the tower's modality")],
        tower: Annotated[str, Form(description="the tower that reads the file", examples=["image"])],
        to: Annotated[list[str] | None, Form(description="the indexes to search; all if none is named")] = None,
        k: Annotated[int, Form(description="hits in each index")] = 10,
        where: Annotated[str | None, Form(description="a filter of payloads")] = None,
        role: Annotated[str | None, Form(description="the prompt of the query")] = None,
        item: Annotated[int, Form(description="which of the file's items to search with, from 1")] = 1,
    ) -> Response:
        wanted = serving.wanted(to or [], k, where)
        encoder = space[serving.tower(tower)].encoder
        _role(encoder, role)
        name = file.filename or "the file"
        async with uploaded(encoder, file.file, name, item, settings, serving.pool) as read:
            return _given(await serving.search((tower, role), read.item, wanted, name, read.count))

    @router.get("/api/towers", tags=["what there is"], summary="Towers, indexes and limits")
    async def towers() -> dict[str, Any]:
        return {
            "towers": [_tower(name, space[name].encoder) for name in space],
            "indexes": [
                {
                    "name": shelf.name,
                    "tower": shelf.tower,
                    "kind": shelf.kind,
                    "items": len(shelf),
                    "searched_by": shelf.index.kind,
                }
                for shelf in serving.library
            ],
            "media": bool(settings.media),
            "limits": {
                "bytes": settings.body,
                "letters": settings.text,
                "hits": settings.shown,
                "seconds": settings.seconds,
                "requests_a_minute": settings.rate or None,
            },
        }

    @router.get("/api/items/{index}", tags=["what there is"], summary="An item by its id")
    async def item(index: str, id: ITEM) -> schemas.Item:
        shelf = serving.shelf(index)
        return await _files(serving, lambda: serving.item(shelf, serving.row(shelf, id)))

    @router.get("/api/views/{index}", tags=["what there is"], summary="An item's content as HTML")
    async def view(index: str, id: ITEM) -> HTMLResponse:
        shelf = serving.shelf(index)
        return HTMLResponse(await _files(serving, lambda: serving.view(shelf, id)))

    @router.get("/api/media/{index}", tags=["what there is"], summary="An item's file", response_model=None)
    async def media(index: str, id: ITEM, side: Annotated[int, Query(ge=1, le=4096)] = 4096) -> Response:
        shelf = serving.shelf(index)
        path = await _files(serving, lambda: serving.file(shelf, id))
        kind = media_type(path)
        headers = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=300"}
        if kind.startswith("image/") and side < 4096:
            small = await _files(serving, lambda: thumbnail(path, side, settings.pixels))
            if small is not None:
                return Response(small[0], media_type=small[1], headers=headers)
        shown = "inline" if kind != "application/octet-stream" else "attachment"
        return FileResponse(path, media_type=kind, headers=headers, content_disposition_type=shown, filename=path.name)

    @router.get("/api/map", tags=["map"], summary="How the map was made, and of what")
    async def facts() -> dict[str, Any]:
        return serving.map.facts()

    @router.get("/api/map/points", tags=["map"], summary="Every point: x and y (uint16), then its index (uint8)")
    async def points() -> Response:
        return Response(serving.map.points(), media_type="application/octet-stream")

    @router.get("/api/map/items/{number}", tags=["map"], summary="The item of a point")
    async def point(number: int, edition: int | None = None) -> schemas.Item:
        drawn = serving.map
        if edition not in (None, drawn.edition):
            raise Problem(409, f"the map was drawn anew: its edition is {drawn.edition} now", item="edition")
        try:
            shelf, row = drawn.item(number)
        except IndexError as error:
            raise Problem(404, f"the map has no point {number}", item=str(number)) from error
        return await _files(serving, lambda: serving.item(shelf, row))

    @router.post("/api/login", tags=["access"], summary="A cookie for a page, in exchange for the token")
    async def login(given: schemas.Login, request: Request) -> JSONResponse:
        if settings.token is None or not same(given.token, settings.token):
            raise Problem(401, "this is not the token that the server was started with", item="token")
        done = JSONResponse({"ok": True})
        done.set_cookie(
            COOKIE, session(settings.token), httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return done

    @router.get("/health", tags=["operation"], summary="Whether it works; 503 if the model is stuck")
    async def health() -> JSONResponse:
        since = serving.batcher.busy_since
        busy = 0.0 if since is None else asyncio.get_running_loop().time() - since
        if busy > 2 * settings.seconds:
            raise Problem(503, f"the model has been at work on one batch for {busy:.0f} s")
        return JSONResponse({"status": "ok", "version": coembed.__version__, "waiting": serving.batcher.depth})

    @router.get("/metrics", tags=["operation"], summary="Figures for Prometheus")
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(serving.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


async def _files(serving: Serving, work: Callable[[], T]) -> T:
    """Disk and decoding, in one of a few threads."""
    return await asyncio.get_running_loop().run_in_executor(serving.pool, work)


def _given(results: schemas.Results) -> Response:
    """Results as they are: they were checked as they were made, and are too many to check twice."""
    return Response(results.model_dump_json(), media_type="application/json")


def _role(encoder: Encoder, role: str | None) -> None:
    try:
        encoder.prompt_for(role)
    except ValueError as error:
        raise Problem(422, f"role: {error}", item="role", expected=", ".join(encoder.prompts)) from error


def _tower(name: str, encoder: Encoder) -> dict[str, Any]:
    return {
        "name": name,
        "modality": encoder.spec.modality,
        "encoder": encoder.spec.name,
        "strings": takes_strings(encoder),
        "files": type(encoder).read is not Encoder.read,
        "roles": list(encoder.prompts),
    }
