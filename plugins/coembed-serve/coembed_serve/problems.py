"""Errors as problem JSON (RFC 9457): what is wrong, with which item, and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA = "application/problem+json"


class Problem(HTTPException):
    """An error that a client is told about; `more` names the item, what it was and what was expected.

    >>> Problem(413, "the body is too large", limit=10).content()["limit"]
    10
    """

    def __init__(self, status: int, detail: str, *, retry_after: float | None = None, **more: Any) -> None:
        headers = {} if retry_after is None else {"Retry-After": str(max(1, round(retry_after)))}
        super().__init__(status, detail, headers=headers)
        self.more: Mapping[str, Any] = more

    def content(self) -> dict[str, Any]:
        """The body."""
        title = HTTPStatus(self.status_code).phrase
        return {"type": "about:blank", "title": title, "status": self.status_code, "detail": self.detail, **self.more}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.content(), self.status_code, headers=self.headers, media_type=MEDIA)


def install(app: FastAPI) -> None:
    """Make every error of an application a problem; what nobody foresaw tells no internals."""

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> JSONResponse:
        problem = error if isinstance(error, Problem) else Problem(error.status_code, str(error.detail))
        return problem.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        return Problem(422, f"{where}: {first['msg']}", item=where, expected=first["msg"]).response()

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        return Problem(500, f"the server failed ({type(error).__name__}); its log says more").response()
