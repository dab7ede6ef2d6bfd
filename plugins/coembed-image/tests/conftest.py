"""A cache of the tests' own, no network, and open_clip checkpoints made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from coembed.testing.guard import offline

VISION = {"layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "image_size": 32}
TEXT = {"layers": 2, "width": 16, "heads": 2, "context_length": 12, "vocab_size": 49408}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One conversion of packaged weights a run, and none in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COEMBED_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Any attempt to open an internet connection fails."""
    with offline():
        yield


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., tuple[torch.nn.Module, Path]]:
    """Build open_clip's own model with random weights and save it as it is published: (model, folder)."""

    def make(
        vision: dict[str, Any] | None = None,
        text: dict[str, Any] | None = None,
        *,
        embed_dim: int = 24,
        custom: bool = False,
        preprocess: dict[str, Any] | None = None,
        **extra: Any,
    ) -> tuple[torch.nn.Module, Path]:
        config = {
            "embed_dim": embed_dim,
            "vision_cfg": VISION | (vision or {}),
            "text_cfg": TEXT | (text or {}),
            **extra,
        }
        torch.manual_seed(0)
        kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
        built = {**config, "text_cfg": dict(config["text_cfg"])}
        if name := built["text_cfg"].get("hf_model_name"):
            built["text_cfg"]["hf_model_name"] = str(tmp_path / name)
        model = kind(**built).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # also those that start at zero or one
                parameter.add_(0.05 * torch.randn_like(parameter))
        described = {"model_cfg": {**config, "custom_text": custom}, "preprocess_cfg": preprocess or {}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
        state = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
        save_file(state, tmp_path / "open_clip_model.safetensors")
        return model, tmp_path

    return make
