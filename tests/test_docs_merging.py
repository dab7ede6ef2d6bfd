"""docs/merging.md: its blocks run in order and print what it says."""

from __future__ import annotations

from pathlib import Path

from .pages import play_python

PAGE = Path(__file__).parents[1] / "docs" / "merging.md"


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("COEMBED_CACHE", str(tmp_path / "cache"))
    play_python(PAGE, tmp_path)
