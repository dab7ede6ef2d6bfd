"""No network in any test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coembed.testing.guard import offline


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Any attempt to open an internet connection fails."""
    with offline():
        yield
