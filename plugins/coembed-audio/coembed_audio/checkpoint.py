"""A checkpoint's parts, read by the classes that transformers itself has for them: never code that it brings along."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from coembed.nn import seeded
from coembed_audio.locate import CheckpointError

_VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "auto_map", "architectures")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and load reports off the screen: what they tell is checked here and raised."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def read_config(folder: Path, kind: Any) -> Any:
    """The configuration of a folder as `kind`; raises CheckpointError for another architecture or a broken file."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text("utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} can't be read as JSON: {error}") from error
    if found != kind.model_type:
        raise CheckpointError(f"{path}: model_type {found!r} is not {kind.model_type!r}: use the encoder made for it")
    return kind.from_pretrained(str(folder), local_files_only=True)


def read_extractor(folder: Path, kind: Any) -> Any:
    """The feature extractor of a folder as `kind`; raises CheckpointError if its file is missing or broken."""
    path = folder / "preprocessor_config.json"
    whole = folder / "processor_config.json"  # what a processor's save_pretrained writes in its place
    try:
        if whole.is_file() and not path.is_file():
            return kind.from_dict(json.loads(whole.read_text("utf-8"))["feature_extractor"])
        return kind.from_dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} does not describe a {kind.__name__}: {error}") from error


def load(folder: Path, kind: Any, config: Any) -> Any:
    """The model of a folder as class `kind`, in float32, from safetensors alone, in evaluation mode.

    Raises CheckpointError if no such file is there, or it is damaged, or a weight is missing.
    """
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} has no .safetensors file; other formats can run code when read, so they are not: save it anew "
            "with save_pretrained, or take a revision that has one"
        )
    try:
        with quiet(), seeded(0):
            model, report = kind.from_pretrained(
                str(folder),
                config=config,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: model.safetensors is damaged or does not fit: {error}") from error
    if missing := sorted(key for key in report["missing_keys"] if "decoder" not in key):
        some = ", ".join(missing[:3])
        raise CheckpointError(f"{folder}: {len(missing)} weights are missing, such as {some}: not a whole checkpoint")
    return model.eval()


def build(kind: Any, config: Any) -> Any:
    """A model of class `kind` with random weights: others are loaded into it afterwards."""
    with quiet(), seeded(0):
        return kind(config).eval()


def facts(config: Any) -> dict[str, Any]:
    """A configuration as JSON types, without what depends on the machine or the library's version."""
    data = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in sorted(data.items()) if key not in _VOLATILE}


def from_facts(kind: Any, data: dict[str, Any]) -> Any:
    """The configuration that `facts` described."""
    return kind(**{key: value for key, value in data.items() if key != "model_type"})


def first_layers(model: nn.Module, name: str, count: int | None) -> nn.Module:
    """The model with only the first `count` modules of its list `name` (a dotted path); None: the model itself.

    A view: it shares every parameter and leaves the model as it is, so two threads may exit at different depths.

    >>> whole = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])})
    >>> view = first_layers(whole, "layers", 1); len(view["layers"]), len(whole["layers"])
    (1, 2)
    """
    if count is None:
        return model
    name, _, rest = name.partition(".")
    view = copy.copy(model)
    view._modules = dict(model._modules)
    child = model.get_submodule(name)
    if rest:
        view._modules[name] = first_layers(child, rest, count)
    else:
        assert isinstance(child, nn.ModuleList)
        view._modules[name] = nn.ModuleList(list(child)[:count])
    return view
