"""The README's offline example runs, and the README names every encoder."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import coembed_dna

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def test_the_first_example_prints_its_shapes(tmp_path, capsys):
    path = tmp_path / "example.py"
    path.write_text(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0], "utf-8")
    runpy.run_path(str(path))
    assert capsys.readouterr().out.splitlines() == ["torch.Size([3, 2080]) 1.0 0.0", "torch.Size([1, 256])"]


def test_every_component_is_named():
    specs = [*coembed_dna.coembed_encoders(), *coembed_dna.coembed_sources()]
    assert not [spec.name for spec in specs if f"`{spec.name}`" not in README]
