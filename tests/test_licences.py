"""Every package of this repository carries its licence into its wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_has_the_licence_files_that_it_names(package):
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "Apache-2.0" in project["license"]
    wanted = project.get("license-files", ["LICENSE"])  # without the key hatchling takes LICENSE at the top
    found = [path for pattern in wanted for path in package.glob(pattern)]
    texts = {path.read_text(encoding="utf-8").strip() for path in found}
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").strip() in texts or any(
        path.name == "Apache-2.0.txt" for path in found
    )
