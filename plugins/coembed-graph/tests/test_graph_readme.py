"""The README's examples run, and name every encoder."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_examples_print_their_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "example.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), "utf-8")
    runpy.run_path(str(tmp_path / "example.py"))
    first, second = capsys.readouterr().out.split("\n")[:2]
    assert first == "torch.Size([6, 1, 128]) torch.Size([6, 7, 128])" and second == "torch.Size([2, 1, 128])"


def test_every_encoder_is_named() -> None:
    from coembed_graph import coembed_encoders

    assert not [spec.name for spec in coembed_encoders() if f"`{spec.name}`" not in TEXT]
