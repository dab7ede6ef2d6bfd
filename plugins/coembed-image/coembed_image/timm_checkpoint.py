"""timm checkpoints: which architecture and weights an encoder's arguments name, built and loaded strictly."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from torch import nn

from coembed import weights as files
from coembed.spec import EncoderSpec
from coembed.weights import WeightsError
from coembed_image.hub import fetch, pinned

CONFIG, MODEL = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Found:
    """An architecture, the folder that describes it, and its weights (None: random)."""

    architecture: str
    folder: Path | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    source: str | None = None


def locate(
    spec: EncoderSpec,
    *,
    model: str | None,
    weights: str | None,
    folder: str | None,
    package: str | None,
    seed: int | None,
) -> Found:
    """What the arguments name; nothing at all means the spec's own weights.

    Raises ValueError for arguments that contradict each other or name no weights, WeightsError for files that can't
    be had.
    """
    named = {"folder": folder, "weights": weights, "package": package}
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{spec.name}: {' and '.join(given)} both name a checkpoint; give one")
    if not given and model is None:
        weights = spec.weights
    if not given and weights is None:
        return _random(spec, model, seed)
    if package is not None:
        from coembed_image.packaged import converted

        home, source = converted(spec.name, package)
    elif weights is not None:
        home, source = fetch(spec.name, weights, [CONFIG, MODEL] if seed is None else [CONFIG]), weights
    else:
        home, source = Path(str(folder)).expanduser(), str(folder)
    architecture, arguments = _described(spec.name, home, model)
    if seed is not None:
        return Found(architecture, home, arguments)
    if not (home / MODEL).is_file():
        raise WeightsError(f"{spec.name}: {home} has no {MODEL}; other formats are not loaded")
    return Found(architecture, home, arguments, home / MODEL, source)


def _random(spec: EncoderSpec, model: str | None, seed: int | None) -> Found:
    if model is None:
        raise ValueError(f"{spec.name}: name a model: weights=, folder=, or model= with seed= for random weights")
    if seed is not None:
        return Found(model)
    known = pinned(f"timm/{model}") or f"timm/{model}@<40-hex revision>"
    raise ValueError(f"{spec.name}: no weights for {model}; pass weights={known!r}, folder=, or seed=0 for random ones")


def _described(who: str, home: Path, model: str | None) -> tuple[str, dict[str, Any]]:
    """Architecture and arguments as config.json has them; without that file, `model`."""
    path = home / CONFIG
    if not path.is_file():
        if model is None:
            raise WeightsError(f"{who}: {home} has no {CONFIG}; name the architecture with model=")
        return model, {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        architecture: str = config["architecture"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{who}: {path} is no timm config ({type(error).__name__}: {error})") from error
    if model is not None and model.partition(".")[0] != architecture:
        raise ValueError(f"{who}: {path} says {architecture}, model={model!r} was asked; leave model out")
    return architecture, dict(config.get("model_args") or {})


def build(who: str, found: Found) -> nn.Module:
    """The network without its classifier, with random weights; raises ValueError naming near architectures."""
    described = found.folder is not None and (found.folder / CONFIG).is_file()
    if not timm.is_model(found.architecture):
        near = difflib.get_close_matches(found.architecture, timm.list_models(), n=3)
        raise ValueError(f"{who}: timm has no model {found.architecture!r}; near: {', '.join(near) or 'none'}")
    name = f"local-dir:{found.folder}" if described else found.architecture
    return timm.create_model(name, pretrained=False, num_classes=0)


def load(who: str, network: nn.Module, path: Path) -> None:
    """Load a safetensors file strictly, but for the classifier that the network does not have.

    Raises WeightsError naming the file and what is missing or left over.
    """
    state = files.read(path)
    classifiers = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    for name in [classifiers] if isinstance(classifiers, str) else classifiers:
        for key in [key for key in state if key.startswith(f"{name}.")]:
            del state[key]
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{who}: {path} does not fit: {' '.join(str(error).split())[:600]}") from error


def resize(who: str, network: nn.Module, size: tuple[int, int]) -> None:
    """Make a network with a fixed input size take another; raises ValueError if it can't."""
    config: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    if tuple(config["input_size"][1:]) == size:
        return
    try:
        if hasattr(network, "set_input_size"):
            network.set_input_size(img_size=size)
        elif config.get("fixed_input_size"):
            raise ValueError("its input size is fixed")
    except (AssertionError, ValueError, TypeError) as error:
        fixed = "x".join(map(str, config["input_size"][1:]))
        raise ValueError(f"{who}: this model is made for {fixed} and can't take size {size}: {error}") from error
