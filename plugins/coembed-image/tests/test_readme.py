"""The README's offline example runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest


def test_first_example_prints_its_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    first = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    (tmp_path / "example.py").write_text(first, encoding="utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    assert capsys.readouterr().out.split("\n")[0] == "torch.Size([4, 1, 1280]) torch.Size([4, 49, 1280])"


def test_every_encoder_is_named() -> None:
    from coembed_image import coembed_encoders

    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    missing = [s.name for s in coembed_encoders() if f"`{s.name.removesuffix('-text')}`" not in text]
    assert not missing
