"""Checks on a plugin as a whole: it loads, cheaply, and its specs tell the truth."""

from __future__ import annotations

import json
import subprocess
import sys

from coembed import registry
from coembed.plugins import diagnose
from coembed.spec import EncoderSpec, resolve
from coembed.testing.cases import Inapplicable, Subject, check

HEAVY = (
    "torch", "torchvision", "torchaudio", "numpy", "pandas", "scipy", "yaml", "pydantic", "PIL", "Bio",
    "transformers", "open_clip", "timm", "sentence_transformers", "tokenizers", "torch_geometric", "sklearn",
)  # fmt: skip


@check("plugin")
def light_import(subject: Subject) -> None:
    """Importing the entry point in a fresh interpreter imports nothing heavy."""
    code = f"import sys, {subject.plugin.module.partition(':')[0]}; print([m for m in {HEAVY!r} if m in sys.modules])"
    path = f"import sys; sys.path[:] = {sys.path!r}; "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"importing {subject.plugin.module} failed: {done.stderr.strip().splitlines()[-1:]}"
    heavy = done.stdout.strip().splitlines()[-1]
    assert heavy == "[]", (
        f"{subject.plugin.module} imports {heavy}: move those imports into the modules that targets name"
    )


@check("plugin")
def specs_are_json(subject: Subject) -> None:
    """Every spec survives JSON, so that it can be listed, compared and saved."""
    for _, spec in subject.plugin:
        try:
            assert json.loads(json.dumps(spec.to_json())) == spec.to_json(), f"{spec.name} changes in JSON"
        except TypeError as error:
            raise AssertionError(f"{spec.name}: {error}; kwargs must be plain JSON types") from error


@check("plugin")
def specs_are_complete(subject: Subject) -> None:
    """Every spec has a licence and a summary, and a checkpoint is pinned."""
    for _, spec in subject.plugin:
        assert spec.license, f"{spec.name} names no license (an SPDX id of code and weights)"
        assert spec.summary, f"{spec.name} has no summary"
        if isinstance(spec, EncoderSpec) and "/" in str(spec.kwargs.get("model", "")):
            assert spec.weights, f"{spec.name} loads {spec.kwargs['model']} unpinned: give weights='org/repo@<40-hex>'"


@check("plugin")
def targets_import(subject: Subject) -> None:
    """Every target names a class that imports."""
    for _, spec in subject.plugin:
        try:
            target = resolve(spec.target)
        except ImportError as error:
            if spec.extra:
                continue  # an extra that is not installed here
            raise AssertionError(f"{spec.name}: {spec.target}: {diagnose(error)}") from error
        assert isinstance(target, type), f"{spec.name}: {spec.target} is {target!r}, not a class"


@check("plugin")
def agrees_with_registry(subject: Subject) -> None:
    """What registry.yaml says of a known plugin is what its specs say."""
    known = registry.known().get(subject.plugin.name)
    if known is None:
        raise Inapplicable("not in registry.yaml")
    from coembed.plugins import plugins

    said = registry.describe(plugins(), [subject.plugin.name])["plugins"][subject.plugin.name]
    for key in ("package", "components"):
        assert known[key] == json.loads(json.dumps(said[key])), (
            f"registry.yaml differs in {key}: coembed registry --write"
        )
