"""The authors' pages are true: their blocks run, their snippets pass the kit and are as short as the pages say."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib.util
import inspect
import io
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from coembed import hookspecs, testing
from coembed.spec import KINDS

from .environment import Environment
from .pages import blocks, play

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "authors"

# The encoders of the pages, and what their specs say here, where nothing may be downloaded.
WRAPPED = {
    "Signal": {"dim": 8},
    "Sentences": {"dim": 64},
    "Pictures": {"dim": None, "kwargs": {"model": "tiny-clip"}},
    "Backbone": {"dim": None, "kwargs": {"model": "test_vit"}},
    "Graphs": {"dim": 16},
}
PROMPTS = {"query": "query: ", "document": ""}
LETTERS = {"dim": 16, "layers": 3, "matryoshka": (4, 8), "prompts": PROMPTS}


def classes(page):
    """The encoders of a page: class -> (the text of its block, the lines of the class)."""
    found = {}
    for block in blocks(DOCS / page):
        for node in ast.parse(block.text).body if block.language == "python" else ():
            if isinstance(node, ast.ClassDef) and "Encoder" in [ast.unparse(base) for base in node.bases]:
                lines = block.text.splitlines()[node.lineno - 1 : node.end_lineno]
                found[node.name] = block.text, [line for line in lines if line.strip()]
    return found


def test_a_wrapped_model_is_under_15_lines():
    found = classes("wrapping.md")
    assert set(found) == set(WRAPPED)
    for name, (_, lines) in found.items():
        assert len(lines) < 15, f"{name} has {len(lines)} lines"
        assert max(map(len, lines)) <= 120


@pytest.fixture
def plant(tmp_path, fakes, monkeypatch):
    """plant(text, name, facts): a plugin `wrapped` whose one encoder is the class of that name in the text."""

    def install(text, name, facts):
        (tmp_path / "wrapped_model.py").write_text(text)
        facts = {"modality": "any", "summary": "A model.", "license": "MIT", **facts}
        (tmp_path / "wrapped_plugin.py").write_text(
            "from coembed import EncoderSpec, hookimpl\n@hookimpl\ndef coembed_encoders():\n"
            f"    yield EncoderSpec(name='wrapped/it', target='wrapped_model:{name}', **{facts!r})\n"
        )
        info = tmp_path / "coembed_wrapped-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: coembed-wrapped\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[coembed.v1]\nwrapped = wrapped_plugin\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.chdir(tmp_path)
        fakes()

    yield install
    for module in ("wrapped_model", "wrapped_plugin"):
        sys.modules.pop(module, None)


def faults():
    """What the conformance kit finds wrong with the planted plugin."""
    found, count = [], 0
    for case in testing.cases("wrapped"):
        count += 1
        try:
            case.run()
        except testing.Inapplicable:
            continue
        except Exception as error:
            found.append(f"{case.id}: {error}")
    assert count > 10
    return found


def checkpoint(folder):
    """A small sentence-transformers model in a folder: what `model` names on the page, without a download."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    from coembed_text.tiny import write_checkpoint

    write_checkpoint(folder / "bert", dim=64)
    parts = [Transformer(str(folder / "bert")), Pooling(64)]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "checkpoint"))


def clip(folder):
    """A small configuration for open_clip, beside those that it knows."""
    import open_clip

    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    (folder / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-clip.json")


PYG = importlib.util.find_spec("torch_geometric") is not None
NEEDS_PYG = [] if PYG else [pytest.mark.external, pytest.mark.skip(reason="torch_geometric is not installed")]


@pytest.mark.parametrize("name", [pytest.param(n, marks=NEEDS_PYG if n == "Graphs" else []) for n in WRAPPED])
def test_a_wrapped_model_passes_the_kit(plant, tmp_path, name):
    if name == "Pictures":
        clip(tmp_path)
    plant(classes("wrapping.md")[name][0], name, WRAPPED[name])
    assert "\n".join(faults()) == ""


def test_a_published_model_passes_the_kit_by_its_tiny(plant, tmp_path):
    (text,) = [b.text for b in blocks(DOCS / "wrapping.md") if "class ResNet50" in b.text]
    (said,) = [b.text for b in blocks(DOCS / "wrapping.md") if "mine/resnet50" in b.text]
    facts = run(said, tmp_path)["spec"].to_json()
    facts = {key: facts[key] for key in ("dim", "kwargs", "weights")}
    base = classes("wrapping.md")["Backbone"][0]
    plant(base + text.replace("from mine.model import Backbone", ""), "ResNet50", facts)
    assert "\n".join(faults()) == ""


def test_the_wrapped_sentence_transformer_gives_that_library_s_vectors(plant, tmp_path, monkeypatch):
    import torch
    from sentence_transformers import SentenceTransformer

    import coembed

    checkpoint(tmp_path)
    folder = str(tmp_path / "checkpoint")
    plant(classes("wrapping.md")["Sentences"][0], "Sentences", {"dim": 64, "prompts": {"query": "find: "}})
    texts = ["a cat", "two dogs in the snow", ""]
    theirs = SentenceTransformer(folder, device="cpu").encode(["find: " + text for text in texts])
    ours = coembed.load("wrapped/it", model=folder).encode(texts, role="query")
    assert torch.allclose(ours.vectors, torch.as_tensor(theirs), atol=1e-6)


def test_a_checkpoint_of_others_needs_a_spec_only(tmp_path):
    """The block that names text/hf's class: it is a hook whose target imports and takes what the spec says."""
    from coembed.spec import resolve

    (block,) = [b for b in blocks(DOCS / "wrapping.md") if "def coembed_encoders" in b.text]
    (spec,) = run(block.text, tmp_path)["coembed_encoders"]()
    assert resolve(spec.target).tiny(spec).encode(["a cat"]).dim == spec.dim == 384


def run(text, folder, names=()):
    """The names that a program leaves, begun with some."""
    path = folder / "block.py"
    path.write_text(text, encoding="utf-8")
    return runpy.run_path(str(path), init_globals=dict(names))


def run_blocks(page, folder):
    """The Python blocks of a page one after another, each with the names of those before it."""
    names = {}

    def python(text):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            names.update(run(text, folder, names))
        return out.getvalue()

    play(DOCS / page, folder, shell=lambda command: pytest.fail(f"no command is expected: {command}"), python=python)


def test_the_page_on_encoders_runs(tmp_path):
    run_blocks("encoders.md", tmp_path)


def test_the_encoder_of_the_page_keeps_every_promise(plant):
    text = classes("encoders.md")["Letters"][0].partition("\nspec = ")[0]
    plant(text, "Letters", LETTERS)
    assert "\n".join(faults()) == ""


def test_the_reference_of_hooks_has_the_signatures_of_the_code():
    text = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^def (coembed_\w+)(\(.*\) -> .*)$", text, flags=re.MULTILINE))
    assert set(said) == {kind.hook for kind in KINDS.values()}
    for name, signature in said.items():
        assert signature == str(inspect.signature(getattr(hookspecs, name))).replace("'", "")
        assert f"## `{name}`" in text


def test_the_examples_of_the_hooks_run():
    result = doctest.testmod(hookspecs)
    assert (result.failed, result.attempted) == (0, len(KINDS))


def test_links_between_the_pages_lead_somewhere():
    for page in DOCS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


@pytest.mark.slow
def test_the_tutorial_and_publishing_run(tmp_path):
    """In an environment of their own, one after the other in one folder: publishing goes on from the tutorial."""
    env = Environment(tmp_path / "env", ours=True)
    env.variables["COEMBED_PLUGINS"] = "palette,text"  # a reader has no others, and loading each takes seconds
    desk = tmp_path / "desk"
    desk.mkdir()
    (desk / "registry.yaml").write_text("# Who owns what.\napi: 1\nplugins: {}\n")  # what a checkout would have, empty

    def shell(command):
        return env.run("bash", "-c", command, cwd=desk)

    def python(text):
        return env.run("python", "-c", text, cwd=desk)

    for page in ("tutorial.md", "publishing.md"):
        play(DOCS / page, desk, shell, python)
