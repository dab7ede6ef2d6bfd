"""The README's examples run, and name every index."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_examples_print_what_they_find(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), "utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    assert capsys.readouterr().out.split("\n")[:3] == ["id0", "1998 True", "b"]


def test_every_index_is_named():
    from coembed_index import coembed_indexes

    pages = TEXT + (ROOT / "METHODS.md").read_text(encoding="utf-8")
    assert not [spec.name for spec in coembed_indexes() if f"`{spec.name}`" not in pages]
