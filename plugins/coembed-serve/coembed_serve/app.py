"""The application: the API, the page, and what stands before both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

import coembed
from coembed_serve import problems
from coembed_serve.guard import Guard
from coembed_serve.library import Library
from coembed_serve.limits import Limits
from coembed_serve.metrics import Timed
from coembed_serve.routes import routes
from coembed_serve.serving import Serving
from coembed_serve.settings import Settings

STATIC = Path(__file__).parent / "static"
ABOUT = "Search a space of embeddings: one modality finds another. Errors are problem JSON (RFC 9457)."


def make(library: Library, settings: Settings) -> FastAPI:
    """An ASGI application that serves the library; `app.state.serving` holds its parts."""
    serving = Serving(library, settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with serving.batcher:
            laying = asyncio.create_task(serving.lay())
            try:
                yield
            finally:
                laying.cancel()
                with suppress(asyncio.CancelledError):
                    await laying
                serving.pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="coembed", version=coembed.__version__, description=ABOUT, docs_url=None, redoc_url=None, lifespan=life
    )  # without FastAPI's own pages of the API: they load scripts from elsewhere
    app.state.serving = serving
    problems.install(app)
    app.include_router(routes(serving))
    if settings.page:
        app.mount("/static", StaticFiles(directory=STATIC))

        @app.get("/", include_in_schema=False)
        async def page() -> FileResponse:
            return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

        @app.get("/favicon.ico", include_in_schema=False)
        async def icon() -> Response:
            return FileResponse(STATIC / "icon.svg")

    # From the inside out: what is added last sees a request first.
    app.add_middleware(Limits, settings=settings)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Timed, metrics=serving.metrics)
    return app
