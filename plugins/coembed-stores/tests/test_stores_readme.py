"""The README's example runs, and its filter runs in the store."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path, capsys):
    pytest.importorskip("lancedb", reason="pip install 'coembed-stores[lancedb]'")
    (tmp_path / "example.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), "utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    first, second = capsys.readouterr().out.splitlines()
    assert first == "d1 {'lang': 'en', 'year': 2024}" and second.startswith("pushed down: ")


def test_every_store_is_named():
    from coembed_stores import coembed_indexes

    assert not [spec.name for spec in coembed_indexes() if f"`{spec.name}`" not in TEXT]
