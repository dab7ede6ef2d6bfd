"""A stranger's plugin of 40 lines: from wheels into a clean environment, aligned with text, searched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .environment import Environment
from .pages import play

ROOT = Path(__file__).parents[1]
PEPTIDE = ROOT / "examples" / "third_party" / "coembed-peptide"
# Of a family each, unseen in training: they must be found near their kin.
HELD = "lypressin,isotocin,angiotensin III,des-Arg bradykinin,leu-enkephalin,neurokinin B,PACAP-27,GIP,BNP,alpha-MSH"

ALIGN = """
import json, sys
import coembed, coembed_peptide, coembed_text, torch

lines = [json.loads(line) for line in open("peptides.jsonl", encoding="utf-8")]
held = sys.argv[1].split(",")
seen = [line for line in lines if line["id"] not in held]
torch.manual_seed(0)
peptide = coembed.Tower("peptide/residues", "linear", dim=64, train="all")
text = coembed.Tower("text/wordllama", "linear", dim=64)
space = coembed.Space({"peptide": peptide, "text": text}, dim=64)
pairs = coembed.Records.pairs(peptide=[l["peptide"] for l in seen], text=[l["text"] for l in seen])
coembed.fit(space, pairs, steps=80, batch_size=len(seen))
space.save("saved")
space = coembed.Space.load("saved")

index = space.index("peptide", [l["peptide"] for l in seen], ids=[l["id"] for l in seen])
best = index.search(space.encode("text", [l["text"] for l in seen]), k=1)
family = {line["id"]: line["family"] for line in lines}
unseen = [line for line in lines if line["id"] in held]
texts = space.index("text", [l["text"] for l in seen], ids=[l["id"] for l in seen])
kin = texts.search(space.encode("peptide", [l["peptide"] for l in unseen]), k=1)
print(json.dumps({
    "files": [module.__file__ for module in (coembed, coembed_peptide, coembed_text)],
    "found": sum(hits[0].id == line["id"] for line, hits in zip(seen, best)) / len(seen),
    "kin": sum(family[hits[0].id] == line["family"] for line, hits in zip(unseen, kin)) / len(unseen),
    "chance": sum(sum(family[s["id"]] == u["family"] for s in seen) / len(seen) for u in unseen) / len(unseen),
}))
"""


def test_it_is_short():
    lines = [line for path in PEPTIDE.rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    assert 20 < sum(bool(line.strip()) for line in lines) <= 40


def test_its_data_is_peptides():
    rows = [json.loads(line) for line in (PEPTIDE / "peptides.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 48
    for key in ("id", "peptide", "text"):
        assert len({row[key] for row in rows}) == len(rows), f"two rows have the same {key}"
    assert all(set(row["peptide"]) <= set("ACDEFGHIKLMNPQRSTVWY") for row in rows)
    assert set(HELD.split(",")) <= {row["id"] for row in rows}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Wheels of core, of coembed-text and of coembed-peptide, from copies: a build leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("wheels")
    tree = tmp_path_factory.mktemp("tree")
    for part in ("pyproject.toml", "README.md", "LICENSE", "registry.yaml", "core", "plugins/coembed-text"):
        source, target = ROOT / part, tree / part
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, target)
    shutil.copytree(PEPTIDE, tree / "coembed-peptide")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    packages = [tree, tree / "plugins" / "coembed-text", tree / "coembed-peptide"]
    done = subprocess.run([*build, "-w", folder, *packages], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def clean(wheels, tmp_path_factory):
    """An environment that has of coembed only what came out of the wheel folder."""
    env = Environment(tmp_path_factory.mktemp("clean") / "env", ours=False)
    empty = tmp_path_factory.mktemp("elsewhere")
    assert "no coembed" in env.run(
        "python", "-c", "try: import coembed\nexcept ImportError: print('no coembed')", cwd=empty
    )
    env.run("pip", "install", "coembed-peptide", "coembed-text[wordllama]", cwd=empty, links=wheels)
    return env


@pytest.mark.slow
def test_the_template_ships_in_the_wheel_and_works_from_it(wheels, clean, tmp_path):
    (wheel,) = wheels.glob("coembed-0*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    here = ROOT / "core" / "coembed"
    template = {f"coembed/{path.relative_to(here)}" for path in (here / "template").rglob("*.tmpl")}
    assert len(template) >= 8 and template <= names
    assert {"coembed/registry.yaml", "coembed/py.typed"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests", "plugins"))]
    clean.run("coembed", "new", "molecule", "--modality", "molecule", cwd=tmp_path)
    assert (tmp_path / "coembed-molecule" / "coembed_molecule" / "model.py").exists()


@pytest.mark.slow
def test_only_what_was_installed_is_there(clean, tmp_path):
    rows = json.loads(clean.run("coembed", "plugins", "--json", cwd=tmp_path))["plugins"]
    assert {row["name"] for row in rows} == {"core", "peptide", "text"}
    assert all(row["error"] is None for row in rows)


@pytest.mark.slow
def test_it_passes_the_kit_from_its_wheel(clean, tmp_path):
    assert "ok, 0 failed, " in clean.run("coembed", "check", "peptide", cwd=tmp_path)
    shutil.copytree(PEPTIDE / "tests", tmp_path / "tests")
    assert " passed" in clean.run("python", "-P", "-m", "pytest", "-q", "--color=no", "tests", cwd=tmp_path)


@pytest.mark.slow
def test_peptides_and_text_are_aligned_and_found(clean, tmp_path):
    shutil.copy(PEPTIDE / "peptides.jsonl", tmp_path)
    out = clean.run("python", "-P", "-W", "error::coembed.CoembedWarning", "-c", ALIGN, HELD, cwd=tmp_path)
    found = json.loads(out.splitlines()[-1])
    assert all(Path(file).is_relative_to(clean.site) for file in found["files"]), found["files"]
    assert found["found"] >= 0.95
    assert found["chance"] < 0.1 and found["kin"] >= 0.6


@pytest.mark.slow
def test_its_readme_is_true(wheels, clean, tmp_path):
    shutil.copy(PEPTIDE / "peptides.jsonl", tmp_path)

    def shell(command):
        return clean.run("bash", "-c", command, cwd=tmp_path, links=wheels)

    play(PEPTIDE / "README.md", tmp_path, shell, python=lambda text: pytest.fail("no Python is expected"))
