"""From the name of a checkpoint to a folder on this machine: a folder, or a pinned hub commit."""

from __future__ import annotations

import re
from pathlib import Path

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>\S+))?")
_PINNED = re.compile(r"[0-9a-f]{40}")
#: What a checkpoint is made of; other formats of the same weights stay where they are.
_WANTED = ["*.json", "*.txt", "*.safetensors"]


class CheckpointError(ValueError):
    """A checkpoint that can't be found, read or used; the message says which, why and what to do."""


def locate(who: str, model: str | None, revision: str | None, weights: str | None) -> tuple[Path, str]:
    """The folder of a checkpoint, downloaded if need be, and the name under which it can be found again.

    `model` is a folder or `org/repo` on the hub; None means `weights`, the spec's own `org/repo@revision`. A hub name
    needs `revision` (or `@revision`), 40 hexadecimal digits: a branch moves, and vectors made before and after would
    not fit together. Raises CheckpointError naming `who`.
    """
    if model is None:
        if weights is None:
            raise CheckpointError(f"{who}: no checkpoint named: pass model=<folder> or model='org/repo', revision=…")
        model = weights
    elif Path(model).expanduser().is_dir():
        if revision is not None:
            raise CheckpointError(f"{who}: {model} is a folder, so revision={revision!r} has no meaning: leave it out")
        return Path(model).expanduser(), model
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
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_WANTED)), f"{repo}@{revision}"
    except Exception as error:  # what a failed download raises depends on the client's version and the fault
        raise CheckpointError(
            f"{who}: {repo}@{revision[:8]} can't be had from the hub ({type(error).__name__}: {error}); "
            "pass model=<folder with its files>"
        ) from error
