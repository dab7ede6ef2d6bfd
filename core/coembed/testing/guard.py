"""Guards around a check: no network, and process-wide settings left as they were."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class NetworkUsed(AssertionError):
    """A check's code tried to reach the network."""


@contextmanager
def offline() -> Iterator[None]:
    """Internet sockets raise NetworkUsed within this block; local ones, which workers talk by, go on."""
    real = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise NetworkUsed(f"the network was used: connect to {address}")
        real(self, address)

    def no_names(host: Any, *_args: Any, **_options: Any) -> Any:
        raise NetworkUsed(f"the network was used: look-up of {host}")

    names = socket.getaddrinfo
    socket.socket.connect, socket.getaddrinfo = refuse, no_names  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = real, names  # type: ignore[method-assign]


def settings() -> dict[str, Any]:
    """Process-wide settings that a component may not change."""
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "torch's thread count": torch.get_num_threads(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "the environment": dict(os.environ),
        "the warning filters": list(warnings.filters),
    }


@contextmanager
def unchanged(what: str) -> Iterator[None]:
    """Raise AssertionError naming every setting that differs after this block."""
    before = settings()
    yield
    after = settings()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"{what} changed {', '.join(changed)}: use torch.random.fork_rng, warnings.catch_warnings, …"
