"""Shared fixtures: fake plugins on the path, a cache of the test's own, one thread."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coembed import plugins

FAKES = Path(__file__).parent / "fakes"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("COEMBED_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("COEMBED_PLUGINS", raising=False)
    monkeypatch.delenv("COEMBED_STRICT", raising=False)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., plugins.Plugins]]:
    """install("good", "broken") puts fake plugins on the path and gives a fresh view of what is installed."""

    def install(*names: str) -> plugins.Plugins:
        for name in names:
            monkeypatch.syspath_prepend(str(FAKES / name))
        plugins.plugins.cache_clear()
        return plugins.plugins()

    yield install
    plugins.plugins.cache_clear()
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        del sys.modules[name]
