"""The README's offline example runs, and the README names every encoder."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import coembed_protein

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def test_the_first_example_prints_its_shapes(tmp_path, capsys):
    path = tmp_path / "example.py"
    path.write_text(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0], "utf-8")
    runpy.run_path(str(path))
    assert capsys.readouterr().out.splitlines() == ["torch.Size([3, 8000]) True", "torch.Size([1, 256])"]


def test_every_encoder_is_named():
    assert not [spec.name for spec in coembed_protein.coembed_encoders() if f"`{spec.name}`" not in README]
