"""METHODS.md: its blocks run in order and print what they should, and it names every method that there is."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from coembed_index.codecs import CODECS
from coembed_index.tables import TABLES

TEXT = (Path(__file__).parents[1] / "METHODS.md").read_text(encoding="utf-8")


def test_the_blocks_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "example.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), "utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["document 0", "document 0", "document 0 30"]
    assert lines[3].startswith("torch.Size([2, 32]) True") and lines[4:] == ["0.050", "2"]


def test_every_method_is_named() -> None:
    assert not [name for name in (*CODECS, *TABLES) if f"`{name}`" not in TEXT]
