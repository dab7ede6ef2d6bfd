"""What `coembed serve` runs."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from coembed.space import Space
from coembed_serve.library import Library, open_library
from coembed_serve.settings import Settings


def serve(space: Space, folder: Path, indexes: list[str], settings: Settings, note: Callable[[str], None]) -> int:
    """Serve a space until it is told to stop; `note` prints a line for the operator."""
    import uvicorn

    from coembed_serve.app import make

    library = open_library(space, folder, indexes)
    _warn_stale(library, note)
    app = make(library, settings)
    listening = _bound(settings)
    port = listening.getsockname()[1]
    for line in said(library, settings, port):
        note(line)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, limit_concurrency=1024, timeout_keep_alive=15
    )
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):  # uvicorn has shut down in order before it raises it once more
        server.run(sockets=[listening])
    return 0 if server.started else 1


def token(given: str | None, settings_host: str) -> str | None:
    """The token to ask for: the one given, else, where others can reach the server, one made here.

    >>> token(None, "127.0.0.1") is None, token("one of mine", "127.0.0.1"), len(token(None, "0.0.0.0"))
    (True, 'one of mine', 32)
    """
    if given is not None:
        if len(given) < 8:
            raise ValueError(f"serve: a token of {len(given)} letters is too easy to guess; take at least 8")
        return given
    probe = Settings(host=settings_host, token="-" * 8)
    return None if probe.loopback else secrets.token_urlsafe(24)


def said(library: Library, settings: Settings, port: int) -> list[str]:
    """What the operator is told at the start."""
    what = ", ".join(f"{len(shelf):,} of {shelf.name}" for shelf in library)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{port}/"
    lines = [f"{what}: {address}"]
    if settings.token is not None:
        # After the # it is never sent, and stands in no log: the page hands it over itself.
        lines = [f"{what}: {address}#token={settings.token}"]
    if not settings.loopback:
        lines.append(
            "warning: others can reach it, over a connection that is not encrypted: put a proxy with TLS before"
        )
    if not settings.media and any(shelf.kind in ("image", "audio") for shelf in library):
        lines.append("pictures and sounds are not shown: --media FOLDER allows the folder that holds them")
    return [*lines, "Ctrl-C stops it."]


def _warn_stale(library: Library, note: Callable[[str], None]) -> None:
    from coembed.cli.index import state

    for shelf in library:
        made = shelf.index.meta.get("state")
        if made is not None and made != state(library.folder, shelf.tower):
            again = "was made before the space was trained anew: make it again by `coembed index`"
            note(f"warning: {shelf.folder} {again}")


def _bound(settings: Settings) -> socket.socket:
    """A socket that listens; raises OSError naming the address if it is taken."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(settings.host).version == 6 else socket.AF_INET
    except ValueError:
        family = socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there it would let two servers share a port
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(1024)  # at once: who reads the address may ask, and waits until the server is there
    except OSError as error:
        listening.close()
        raise OSError(
            error.errno, f"{error.strerror}; --port names another", f"{settings.host}:{settings.port}"
        ) from error
    return listening
