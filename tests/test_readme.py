"""README.md: its samples run, what it says a program prints is what that prints, and its links lead somewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import re
import runpy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import coembed

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "docs/index.md",
    "docs/design.md",
    "examples/README.md",
    "examples/recipes/README.md",
)


def sample(name: str) -> str:
    """The Python block that follows the mark `<!-- test:NAME -->`."""
    found = re.search(rf"<!-- test:{name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found is not None, f"README.md has no sample <!-- test:{name} -->"
    return found[1]


def play(name: str, folder: Path) -> tuple[dict[str, Any], str]:
    """Run a sample in a folder; its names, and what it printed."""
    path = folder / f"{name}.py"
    path.write_text(sample(name), encoding="utf-8")
    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        names = runpy.run_path(str(path))
    return names, out.getvalue()


@pytest.fixture
def writer() -> ModuleType:
    """tools/readme.py as a module."""
    spec = importlib.util.spec_from_file_location("readme_tool", ROOT / "tools" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        spec.loader.exec_module(module)
    return module


def test_every_sample_is_tested() -> None:
    marked = re.findall(r"<!-- test:(\w+) -->\n```python", README)
    assert len(marked) == README.count("```python") == len(set(marked))
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in marked if f'play("{name}"' not in source] == []


def test_search_sample_finds_pictures_in_the_demos_space(tmp_path: Path) -> None:
    from coembed.demo.search import drawing

    # A stand-in for what the demo writes: the same towers, bound on the very animals that the sample asks for.
    torch.manual_seed(0)
    space = coembed.Space({"image": "image/efficientnet-lite0", "text": "text/minilm"}, dim=384)
    animals = coembed.Records(r for r in coembed.load("samples/emoji") if r.label.startswith("animal"))
    coembed.fit(space, animals, epochs=20, batch_size=64, lr=3e-3)
    space.save(tmp_path / "coembed-demo" / "space")
    drawing(tmp_path / "coembed-demo" / "drawn-heart.png")

    assert len(sample("search").splitlines()) < 15
    names, printed = play("search", tmp_path)
    rows = printed.splitlines()
    assert len(rows) == len(re.search(r"<!-- test:search -->.*?```text\n(.*?)```", README, re.DOTALL)[1].splitlines())
    assert {row.split(maxsplit=1)[1] for row in rows[:3]} <= set(names["names"])
    assert re.fullmatch(r"-?\d\.\d\d  (heart|star|tree)", rows[3])
    found = names["index"].search(names["space"].encode("text", [animals[0]["text"]]), k=5)[0]
    assert names["names"][0] in [hit.payload for hit in found]


def test_train_sample_learns_from_a_file_of_pairs(tmp_path: Path) -> None:
    emoji, german = (coembed.load("samples/emoji", language=language) for language in ("en", "de"))
    name = lambda record: record["text"].partition(":")[0]  # noqa: E731
    rows = [{"question": name(a), "answer": name(b), "group": a.group} for a, b in zip(emoji, german, strict=True)]
    lines = [json.dumps(row) for row in rows[::3]]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    names, printed = play("train", tmp_path)
    figures = names["history"].figures["question->answer"]
    assert figures["R@10"] > 2 * figures["chance_R@10"] and str(figures["R@10"]) in printed
    assert coembed.Space.load(tmp_path / "my-space")["answer"].dim == 384


def test_encoder_sample_trains_beside_a_registered_one(tmp_path: Path) -> None:
    names, _ = play("encoder", tmp_path)
    space = names["space"]
    assert space.encode("colour", names["Colour"].samples()).values.shape == (2, 1, 256)
    pairs = coembed.Records.pairs(colour=[(255, 0, 0), (0, 0, 255), (0, 255, 0)], text=["red", "blue", "green"])
    assert len(coembed.fit(space, pairs, steps=2).losses) == 2


def test_blocks_from_the_code_are_fresh(writer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    fresh = writer.replace(writer.replace(README, "plugins", writer.plugins()), "help", writer.commands())
    assert fresh == README, "README.md is stale: run `.venv/bin/python tools/readme.py`"


def test_blocks_from_a_run_are_cut_from_its_log(writer: ModuleType) -> None:
    table = "Held-out figures, 3 seeds:\nTrained together\n head\n ─────\n row\nThe same, harder\n head\n hard row\n"
    queries = "Some queries:\n  text to image: a\n      0.4  b\n      0.3  c\n  text to image: d\n      0.2  e\n"
    after = "\n60 s. The report: r.html. Now try:\n  coembed search x 'y'\n  coembed serve x\n"
    lines = "No honest pair\nreached:     12 of 12 trained directions beat chance\nNOT reached: b\n"
    log = f"encode: 3/3\n{table}{lines}\n{queries}{after}\nreal 1m\n"
    block = writer.demo(log)
    assert " row\n…\nreached:     12 of 12 trained directions beat chance\n…\nSome queries:\n" in block
    assert "Some queries:\n  text to image: a\n      0.4  b\n…\n60 s." in block
    assert block.endswith("coembed search x 'y'\n  coembed serve x\n```")
    assert not any(left in block for left in ("0.3", "NOT reached", "hard row", "No honest pair"))
    with pytest.raises(ValueError, match="ended"):
        writer.demo(table)
    assert writer.tests("...\n==== 3 passed in 2.1s ====\n") == "```text\n3 passed in 2.1s\n```"
    with pytest.raises(ValueError, match="passed"):
        writer.tests("1 failed, 3 passed in 2.1s")


def test_blocks_from_a_run_name_commands_that_are_there() -> None:
    from coembed.cli import COMMANDS

    for name in ("demo", "tests"):
        block = README.split(f"<!-- {name}:start -->")[1].split(f"<!-- {name}:end -->")[0]
        assert block.strip().startswith("```text"), f"the block {name} of README.md is empty"
        assert set(re.findall(r"^  coembed (\w+)", block, re.MULTILINE)) <= set(COMMANDS)


def test_components_that_the_samples_name_are_registered() -> None:
    from coembed.plugins import plugins
    from coembed.spec import KINDS

    named = set(re.findall(r'"((?:text|image|samples)/[\w.-]+|jsonl|infonce|linear)"', README))
    assert {"text/minilm", "image/efficientnet-lite0", "samples/emoji"} <= named
    known = {spec.name for kind in KINDS for _, _, spec in plugins().specs(kind)}
    assert named <= known


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("https://", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), f"{page} links to {target}"
