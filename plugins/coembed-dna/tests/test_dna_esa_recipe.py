"""The recipe of Embed-Search-Align runs in its quick form: every invariant is asserted in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("edlib")
pytest.importorskip("coembed_samples")
RECIPE = Path(__file__).parents[3] / "examples" / "recipes" / "dna_esa.py"


@pytest.mark.skipif(not RECIPE.is_file(), reason="the recipe is in the repository, not in the package")
def test_the_quick_recipe_holds_its_invariants_and_gives_its_figures():
    command = [sys.executable, str(RECIPE), "--quick", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    found = json.loads(done.stdout)
    assert found["recipe"] == "dna-esa" and found["verdict"].startswith("Training ")
    assert list(found["rows"]) == ["untrained", "trained", "k-mers"]
    for cases in found["rows"].values():
        assert list(cases) == ["clean", "indels 2%", "5% + indels 4%"]
        assert all(0 <= value <= 1 for rows in cases.values() for row in rows for value in row.values())
    counting = found["rows"]["k-mers"]
    assert counting["clean"][0]["strict"] > 0.9 > counting["5% + indels 4%"][0]["strict"]
