"""open_clip checkpoints: which architecture and weights an encoder's arguments name."""

from __future__ import annotations

import copy
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip

from coembed.spec import EncoderSpec
from coembed.weights import WeightsError
from coembed_image.hub import fetch, pinned

CONFIG = "open_clip_config.json"
MODELS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
#: What a tokeniser may need besides the config; weights of other formats stay on the hub.
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json")
TOKENIZER += ("merges.txt", "added_tokens.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")


@dataclass(frozen=True)
class Checkpoint:
    """The configs of a model, the folder with its tokeniser, and its weights file (None: random)."""

    model: dict[str, Any]
    preprocess: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    weights: Path | None = None
    source: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Both configs, as open_clip_config.json holds them."""
        return {"model_cfg": self.model, "preprocess_cfg": self.preprocess}


def locate(
    spec: EncoderSpec,
    *,
    model: str | None,
    pretrained: str | None,
    weights: str | None,
    folder: str | None,
    config: Mapping[str, Any] | None,
    seed: int | None,
) -> Checkpoint:
    """What the arguments name; nothing at all means the spec's own weights.

    Raises ValueError for arguments that contradict each other or name no weights, WeightsError for files that can't
    be had or read.
    """
    named = {"pretrained": pretrained, "weights": weights, "folder": folder, "config": config}
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{spec.name}: {' and '.join(given)} both name a checkpoint; give one")
    if pretrained is not None:
        weights = _tagged(spec.name, model, pretrained)
    elif not given and model is None:
        weights = spec.weights
    elif given and model is not None:
        raise ValueError(f"{spec.name}: {given[0]} says which model it is; leave model={model!r} out")
    if folder is not None:
        return _in_folder(spec.name, Path(folder).expanduser(), folder, seed)
    if weights is not None:
        wanted = [CONFIG, *TOKENIZER, "*/config.json", *(MODELS if seed is None else ())]
        return _in_folder(spec.name, fetch(spec.name, weights, wanted), weights, seed)
    if config is not None:
        described = _checked(spec.name, "config", config)
    else:
        described = {"model_cfg": _architecture(spec.name, model)}
    if seed is None:
        raise ValueError(f"{spec.name}: no weights named; pass weights=, folder=, pretrained=, or seed=0 for random")
    return Checkpoint(described["model_cfg"], dict(described.get("preprocess_cfg") or {}))


def _in_folder(who: str, home: Path, source: str, seed: int | None) -> Checkpoint:
    path = home / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{who}: {home} has no readable {CONFIG} ({error})") from error
    except ValueError as error:
        raise WeightsError(f"{who}: {path} is damaged ({error})") from error
    described = _checked(who, str(path), config)
    model, preprocess = described["model_cfg"], dict(described.get("preprocess_cfg") or {})
    if seed is not None:
        return Checkpoint(model, preprocess, home)
    file = next((home / name for name in MODELS if (home / name).is_file()), None)
    if file is None:
        raise WeightsError(f"{who}: {home} has no {' or '.join(MODELS)}; other formats are not loaded")
    return Checkpoint(model, preprocess, home, file, source)


def _checked(who: str, what: str, config: Any) -> dict[str, Any]:
    model = config.get("model_cfg") if isinstance(config, Mapping) else None
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in (model or {})]
    if missing:
        raise WeightsError(f"{who}: {what} is no open_clip config: model_cfg lacks {', '.join(missing)}")
    return copy.deepcopy(dict(config))


def _architecture(who: str, model: str | None) -> dict[str, Any]:
    if model is None:
        raise ValueError(f"{who}: name a checkpoint: weights=, folder=, or model= with pretrained= or seed=")
    config = open_clip.get_model_config(model) if model in open_clip.list_models() else None
    if config is None:
        near = difflib.get_close_matches(model, open_clip.list_models(), n=3)
        raise ValueError(f"{who}: open_clip has no model {model!r}; near: {', '.join(near) or 'none'}")
    return config


def _tagged(who: str, model: str | None, tag: str) -> str:
    """The pinned hub repository behind a tag of open_clip's own table."""
    if model is None:
        raise ValueError(f"{who}: pretrained={tag!r} needs model=, such as model='ViT-B-32'")
    _architecture(who, model)
    tags = open_clip.list_pretrained_tags_by_model(model)
    facts = open_clip.get_pretrained_cfg(model, tag)
    if not facts:
        raise ValueError(f"{who}: {model} has no tag {tag!r}; it has {', '.join(tags) or 'none'}")
    repo = "/".join((facts.get("hf_hub") or "").split("/")[:2])
    if not repo:
        raise ValueError(f"{who}: {model} {tag!r} is not published as safetensors; tags that may be: {', '.join(tags)}")
    found = pinned(repo)
    if found is None:
        raise ValueError(f"{who}: {model} {tag!r} is {repo}, not pinned here; pass weights='{repo}@<40-hex revision>'")
    return found
