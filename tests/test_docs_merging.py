"""docs/merging.md: its blocks run in order and print what it says."""

from __future__ import annotations

import contextlib
import io
import runpy
from pathlib import Path

import pytest

from .pages import play

PAGE = Path(__file__).parents[1] / "docs" / "merging.md"


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("COEMBED_CACHE", str(tmp_path / "cache"))
    names = {}

    def python(text):
        path = tmp_path / "block.py"
        path.write_text(text, encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            names.update(runpy.run_path(str(path), init_globals=names))
        return out.getvalue()

    play(PAGE, tmp_path, shell=lambda command: pytest.fail(f"no command is expected: {command}"), python=python)
