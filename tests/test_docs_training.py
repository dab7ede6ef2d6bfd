"""docs/training.md: its blocks run in order and print what it says, and it names every setting that there is."""

from __future__ import annotations

import inspect
from pathlib import Path

import coembed

from .pages import play_python

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("COEMBED_CACHE", str(tmp_path / "cache"))
    play_python(PAGE, tmp_path)


def test_every_setting_is_explained():
    text = PAGE.read_text(encoding="utf-8")
    plain = {"space", "source", "epochs", "steps", "seed", "resume", "progress"}
    for name in set(inspect.signature(coembed.fit).parameters) - plain:
        assert name in text, f"docs/training.md does not say what {name} is for"
