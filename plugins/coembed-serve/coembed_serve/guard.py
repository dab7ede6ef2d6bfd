"""Who may ask, and what a browser may do with the answer."""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coembed_serve.limits import Rate
from coembed_serve.problems import Problem
from coembed_serve.settings import Settings

COOKIE = "coembed"
OPEN = ("/", "/health", "/api/login", "/favicon.ico")  # they tell nothing of the space
COSTS = {"/api/search": 1.0, "/api/search/file": 1.0, "/api/login": 6.0}  # of a client's share
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI: the token, the names a loopback server answers to, one's own pages alone, the rate, security headers.

    Without a token every page that a browser visits could ask a server on this machine, hence the check of names (a
    foreign name that points here is refused) and of `Sec-Fetch-Site`.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.rate = Rate(settings.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refused(scope)
        if refused is not None:
            return await refused.response()(scope, receive, hardened)
        await self.app(scope, receive, hardened)

    def _refused(self, scope: Scope) -> Problem | None:
        headers, path = Headers(scope=scope), scope["path"]
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and path != "/":
            return Problem(403, "another site's page may not ask this server")
        client = scope["client"][0] if scope.get("client") else "?"
        if self.settings.token is None:
            if _name(headers.get("host", "")) not in self.settings.names:
                return Problem(421, "this server answers to the name that it was started with; --allow-host adds one")
        elif path not in OPEN and not path.startswith("/static/") and not self._known(headers):
            wait = self.rate.wait(client)
            if wait:
                return _too_many(wait, self.settings.rate)
            problem = Problem(401, "a token is needed: `Authorization: Bearer TOKEN`")
            problem.headers = {"WWW-Authenticate": "Bearer"}
            return problem
        cost = COSTS.get(path, 0.0)
        wait = self.rate.wait(client, cost) if cost else 0.0
        return _too_many(wait, self.settings.rate) if wait else None

    def _known(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and same(given.strip(), self.settings.token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and same(cookie.value, session(self.settings.token or ""))


def same(given: str, wanted: str | None) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return wanted is not None and hmac.compare_digest(given.encode(), wanted.encode())


def session(token: str) -> str:
    """What a browser keeps in place of the token."""
    return hmac.new(token.encode(), b"coembed-serve session", hashlib.sha256).hexdigest()


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _too_many(wait: float, rate: float) -> Problem:
    return Problem(429, f"more than {rate:g} requests a minute: wait {wait:.0f} s", retry_after=wait, expected=rate)
