"""Spaces on a model hub, by huggingface_hub (the `hub` extra)."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from coembed.plugins import PluginError

if TYPE_CHECKING:
    from coembed.space import Space


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise PluginError("the hub needs huggingface_hub: pip install 'coembed[hub]'") from error
    return huggingface_hub


def push(space: Space, repo: str, *, private: bool, token: str | None) -> str:
    """Upload a space as a model repository; returns its address."""
    api = _hub().HfApi(token=token)
    address = api.create_repo(repo, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        space.save(folder)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Space saved by coembed")
    return str(address)


def pull(repo: str, *, revision: str, token: str | None) -> Path:
    """Download a space at a pinned revision; only names, JSON, text and safetensors come along.

    Raises ValueError unless the revision is a 40-hex commit: a branch can change under its readers.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ValueError(f"revision {revision!r} of {repo} is not pinned: give the 40-hex commit")
    allow = ["*.json", "*.safetensors", "*.md", "*.txt", "*.model"]
    return Path(_hub().snapshot_download(repo, revision=revision, token=token, allow_patterns=allow))
