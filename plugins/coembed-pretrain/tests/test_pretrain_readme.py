"""The README's examples run, and name every component."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_examples_print_what_they_should(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "example.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), "utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    assert capsys.readouterr().out.splitlines() == ["torch.Size([1, 1, 32])"]


def test_every_component_is_named() -> None:
    from coembed_pretrain import coembed_pretexts

    assert not [spec.name for spec in coembed_pretexts() if f"`{spec.name}`" not in TEXT]
