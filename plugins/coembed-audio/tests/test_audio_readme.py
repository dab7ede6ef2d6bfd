"""The README's offline example runs, and names every encoder."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from coembed_audio import coembed_encoders

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_first_example_prints_its_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    (tmp_path / "example.py").write_text(first, encoding="utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    assert capsys.readouterr().out == "torch.Size([5, 1, 192]) torch.Size([5, 22, 192])\n"


def test_every_encoder_is_named() -> None:
    assert not [spec.name for spec in coembed_encoders() if f"`{spec.name}`" not in TEXT]
