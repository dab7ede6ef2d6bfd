"""The README's example runs, and prints a report of every stage."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import coembed_retrieval

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path, capsys):
    (tmp_path / "example.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), "utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    out = capsys.readouterr().out
    assert all(f"\n{stage} " in out for stage in ("dense", "bm25", "fused (rrf)", "late interaction"))


def test_everything_public_is_named():
    assert not [name for name in coembed_retrieval.__all__ if name not in TEXT and name not in ("RRF", "Subspace")]
