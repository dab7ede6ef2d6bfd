"""A pinned checkpoint on the hub to a folder on this machine, fetching only the files that are asked for."""

from __future__ import annotations

from pathlib import Path

from coembed.spec import WEIGHTS
from coembed.weights import WeightsError


def fetch(who: str, weights: str, files: list[str]) -> Path:
    """The folder with `files` (patterns) of `org/repo@<40-hex revision>`, from the hub's cache or the hub.

    Raises WeightsError naming `who` if the revision is not pinned or the files can't be had.
    """
    if not WEIGHTS.fullmatch(weights):
        raise WeightsError(f"{who}: weights {weights!r} are not pinned; write org/repo@<40-hex revision>")
    repo, _, revision = weights.partition("@")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=files))
    except Exception as error:  # what a failed download raises depends on the client's version and on the fault
        cause = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"{who}: {repo}@{revision[:8]} can't be had from the hub ({type(error).__name__}: {cause}); "
            "try again with a network, or pass folder=<folder with its files>"
        ) from error


def pinned(repo: str) -> str | None:
    """`repo@revision` as one of this package's encoders pins it, or None."""
    from coembed_image import coembed_encoders

    return next((s.weights for s in coembed_encoders() if s.weights and s.weights.startswith(f"{repo}@")), None)
