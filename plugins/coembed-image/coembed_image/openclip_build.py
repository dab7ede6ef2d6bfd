"""One half of an open_clip model, built and loaded without the other half."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from open_clip import CustomTextCLIP
from torch import Tensor, nn

from coembed.nn import seeded
from coembed.weights import WeightsError
from coembed_image.openclip_checkpoint import Checkpoint

#: Stands for the half that is not wanted: a two-tower model is built, and one of its towers is next to nothing.
_NO_VISION = {"layers": 1, "width": 8, "head_width": 8, "patch_size": 8, "image_size": 8}
_NO_TEXT = {"layers": 1, "width": 8, "heads": 1, "context_length": 1, "vocab_size": 1}
#: The text half's parts in checkpoints of the first CLIP layout, where they lie beside `visual`.
_UNPACKED = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection", "cls_emb")
#: Buffers that old checkpoints carry and models no longer hold.
_STALE = ("attn_mask", "transformer.embeddings.position_ids")


def build(who: str, found: Checkpoint, half: Literal["visual", "text"], seed: int | None) -> nn.Module:
    """The image or the text half with its weights; the other half is neither built nor read.

    Raises ValueError for a config that open_clip refuses, WeightsError for weights that do not fit.
    """
    model = copy.deepcopy(found.model)
    model["vision_cfg"] = {**model["vision_cfg"], "timm_model_pretrained": False} if half == "visual" else _NO_VISION
    model["text_cfg"] = _text(who, model["text_cfg"], found.folder) if half == "text" else _NO_TEXT
    wanted = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
    try:
        with seeded(seed or 0):
            whole = CustomTextCLIP(**{key: model[key] for key in wanted if key in model})
    except (TypeError, AssertionError, RuntimeError, KeyError) as error:
        raise ValueError(f"{who}: open_clip can't build this config: {type(error).__name__}: {error}") from error
    part: nn.Module = getattr(whole, half)
    if found.weights is not None:
        load(who, part, found.weights, half)
    return part.eval()


def _text(who: str, config: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """A text config whose Hugging Face architecture, if it names one, is a folder of the checkpoint."""
    name = config.get("hf_model_name")
    if not name:
        return dict(config)
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{who}: hf_model_name {name!r} leads out of the checkpoint's folder")
    home = (folder or Path()) / name
    if folder is None or not (home / "config.json").is_file():
        place = f"{folder}/{name}" if folder else f"<folder>/{name}"
        raise ValueError(
            f"{who}: its text half is the Hugging Face architecture {name!r}, whose config the checkpoint does not "
            f"carry: put config.json into {place} and load with folder="
        )
    described = json.loads((home / "config.json").read_text(encoding="utf-8"))
    if "auto_map" in described:
        raise ValueError(f"{who}: {home / 'config.json'} names code of its own (auto_map), which is never run")
    return {**config, "hf_model_name": str(home), "hf_model_pretrained": False}


def load(who: str, part: nn.Module, path: Path, half: Literal["visual", "text"]) -> None:
    """Read one half's tensors from a safetensors file, strictly; raises WeightsError naming what does not fit."""
    try:
        part.load_state_dict(read(path, half), strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{who}: {path} does not fit: {' '.join(str(error).split())[:600]}") from error


def read(path: Path, half: Literal["visual", "text"]) -> dict[str, Tensor]:
    """One half's tensors, named as its module names them; the other half stays on disk."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            names = list(file.keys())
            prefix = f"{half}."
            if half == "text" and not any(name.startswith(prefix) for name in names):
                kept = {name: name for name in names if name.startswith(_UNPACKED)}
            else:
                kept = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
            return {short: file.get_tensor(name) for name, short in kept.items() if short not in _STALE}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: damaged or cut off ({error}); copy it anew") from error
