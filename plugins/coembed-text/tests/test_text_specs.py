"""What the package says of itself: light to list, true to its facts, usable without a network."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

import coembed
import coembed_text
from coembed.spec import resolve
from coembed_text.entries import NAMED

SPECS = {spec.name: spec for spec in coembed_text.coembed_encoders()}


def test_listing_imports_nothing_heavy():
    code = (
        "import sys, coembed_text; list(coembed_text.coembed_encoders());"
        "print([m for m in ('torch', 'numpy', 'transformers', 'tokenizers', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_named_checkpoint_is_pinned_and_has_a_licence():
    for spec in NAMED:
        assert spec.license and spec.dim and spec.modality == "text", spec.name
        assert spec.weights is None or re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", spec.weights), spec.name
        assert spec.weights or spec.kwargs.get("model", "").startswith("package:"), spec.name
        assert set(spec.prompts) in (set(), {"query", "document"}), spec.name
    pins = [spec.weights for spec in NAMED if spec.weights]
    assert len(pins) == len(set(pins))


@pytest.mark.parametrize("name", SPECS)
def test_tiny_works_offline(name, offline, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))  # not even a cache
    spec = SPECS[name]
    cls = resolve(spec.target)
    encoder, again = cls.tiny(spec), cls.tiny(spec)
    samples = cls.samples()
    x = encoder.encode(samples, role="query")
    assert x.values.shape == (len(samples), 1, encoder.dim) and x.values.isfinite().all() and x.present.all()
    assert torch.equal(x.values, again.encode(samples, role="query").values)
    assert len({tuple(row) for row in x.vectors.tolist()}) == len(samples)
    assert encoder.source is None
    if name not in ("text/hf", "text/static", "text/transformer"):
        assert encoder.dim == spec.dim
    for size in spec.matryoshka:
        assert encoder.encode(samples[:2], dim=size).dim == size


def test_prompts_of_a_role_reach_the_text():
    encoder = resolve(SPECS["text/e5-small"].target).tiny(SPECS["text/e5-small"])
    assert torch.equal(encoder.encode(["cat"], role="query").values, encoder.encode(["query: cat"]).values)
    assert torch.equal(encoder.encode(["cat"], role="document").values, encoder.encode(["passage: cat"]).values)


def test_transformer_from_scratch(tmp_path):
    encoder = coembed.load("text/transformer", dim=32, layers=3, tokenizer="bpe:300", max_length=64)
    encoder.fit_tokenizer(encoder.samples())
    assert (encoder.dim, encoder.layers, len(encoder.blocks())) == (32, 3, 3)
    calls: list[int] = []
    hooks = [block.register_forward_hook(lambda *_: calls.append(1)) for block in encoder.blocks()]
    encoder.encode(["a cat"], layer=2, role="query")
    assert len(calls) == 2
    for hook in hooks:  # a layer with a hook is never left to a kernel, and torch's last bits are its own
        hook.remove()
    encoder.save(tmp_path)
    again = type(encoder).open(encoder.spec, tmp_path)
    assert torch.equal(again.encode(encoder.samples()).values, encoder.encode(encoder.samples()).values)
    (tmp_path / "note.txt").write_text("a note")
    assert encoder.read(tmp_path / "note.txt") == ["a note"]
