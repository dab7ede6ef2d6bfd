"""Guards around a check: no network, and process-wide settings watched and put back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coembed.testing.subject import Broken


class NetworkUsed(Broken):
    """A check's code tried to reach the network."""


@contextmanager
def offline() -> Iterator[list[str]]:
    """Internet sockets raise NetworkUsed within this block; local ones, which workers talk by, go on.

    Yields the list of attempts, for those whose error is swallowed.

    >>> with offline() as attempts:
    ...     try:
    ...         _ = socket.create_connection(("example.org", 80))
    ...     except NetworkUsed:
    ...         print(attempts)
    ['look-up of example.org']
    """
    attempts: list[str] = []
    kept = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    look_up = socket.getaddrinfo

    def refuse(what: str) -> None:
        attempts.append(what)
        raise NetworkUsed(f"the network was used ({what}): tiny() must make what it needs on the spot")

    def guarded(name: str) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse(f"connection to {address}")
            return kept[name](self, address)

        return connect

    for name in kept:
        setattr(socket.socket, name, guarded(name))
    socket.getaddrinfo = lambda host, *_, **__: refuse(f"look-up of {host}")  # type: ignore[assignment]
    try:
        yield attempts
    finally:
        for name, real in kept.items():
            setattr(socket.socket, name, real)
        socket.getaddrinfo = look_up
