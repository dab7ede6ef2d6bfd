"""What the operator decides: where to listen, who may ask, and how much."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits and access; every limit has an end, 0 lifts the one on the rate alone.

    `body` bytes of a request, `seconds` until it must begin to answer, `rate` searches a minute for each client,
    `queue` requests that may wait for the model, `batch` of them answered together, after at most `wait` seconds.
    `media` are the folders that files may be shown from.

    >>> Settings(host="127.0.0.1").loopback, Settings(host="0.0.0.0", token="secret").loopback
    (True, False)
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    media: tuple[Path, ...] = ()
    body: int = 16 << 20
    seconds: float = 30.0
    rate: float = 600.0
    queue: int = 256
    batch: int = 32
    wait: float = 0.004
    text: int = 20_000  # letters of a typed query
    pixels: int = 64_000_000  # of a picture that is opened: a small file may hold many
    sound: float = 1200.0  # seconds of a sound that is opened
    shown: int = 100  # the most hits a search may ask for
    points: int = 100_000  # of the map
    layout: str = "auto"  # of the map: auto, pacmap or pca
    page: bool = True
    hosts: frozenset[str] = field(default=frozenset())  # further names that the server is reached by

    def __post_init__(self) -> None:
        for name in ("body", "seconds", "queue", "batch", "text", "pixels", "sound", "shown", "points"):
            if getattr(self, name) <= 0:
                raise ValueError(f"serve: {name} {getattr(self, name)} must be more than 0")
        if self.rate < 0 or self.wait < 0:
            raise ValueError(f"serve: rate {self.rate} and wait {self.wait} must be at least 0")
        if not self.loopback and not self.token:
            raise ValueError(f"serve: bound to {self.host}, which others can reach, it needs a token")
        for folder in self.media:
            if not folder.is_dir():
                raise ValueError(f"serve: --media {folder}: no such folder")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def names(self) -> frozenset[str]:
        """The names that a browser on this machine may call it by."""
        return frozenset({"localhost", "127.0.0.1", "::1", self.host}) | self.hosts
