"""A checkpoint's transformer and tokeniser: configuration, safetensors and tokeniser files only, never its code."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, normalizers
from torch import nn

from coembed.nn import seeded
from coembed_text import packing
from coembed_text.packaged import CheckpointError

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "auto_map")


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


def no_code(path: Path, key: str | None) -> dict[str, Any]:
    """A JSON file of the checkpoint, refused when it asks for code that the checkpoint brings along."""
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read as JSON: {error}") from error
    if key is not None and key in (data.get("auto_map") or {}):
        raise CheckpointError(f"{path}: it needs code of its own (auto_map), and no code of a checkpoint is ever run")
    return data


def _known_config(kind: str | None, where: str) -> type[Any]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if kind is None or kind not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{where}: model_type {kind!r} is not one of transformers' own; a checkpoint that needs code of its own is "
            "never run, and a newer architecture needs a newer transformers"
        )
    found: type[Any] = CONFIG_MAPPING[kind]
    return found


def _body_class(config: Any) -> Any:
    """The class that reads text: for T5 and its kin the encoder alone, whose configuration forgets that it is one."""
    from transformers import AutoModel, AutoModelForTextEncoding

    text = AutoModelForTextEncoding._model_mapping.get(type(config), None)
    whole = AutoModel._model_mapping.get(type(config), None)
    return AutoModel if text is None or text is whole else AutoModelForTextEncoding


def _trimmed(model: Any) -> nn.Module:
    """The encoder without parts that never see a gradient or a token: a decoder, a pooler made for pretraining."""
    if model.config.is_encoder_decoder and "Encoder" not in type(model).__name__:
        model = model.get_encoder()
    if "add_pooling_layer" in inspect.signature(type(model).__init__).parameters:
        model.pooler = None  # often absent from the file, and then random: it would change the fingerprint
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    packing.install(model)
    body: nn.Module = model.eval()
    return body


def load_body(folder: Path) -> Any:
    """The transformer of a folder in float32, read from safetensors.

    Raises CheckpointError if the architecture is unknown, no safetensors file is there or a weight is missing.
    """
    raw = no_code(folder / "config.json", None)
    config = _known_config(raw.get("model_type"), str(folder / "config.json")).from_pretrained(
        str(folder), local_files_only=True
    )
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} has no .safetensors file; other formats can run code when read, so they are not: save it anew "
            "with save_pretrained, or take a revision that has one"
        )
    try:
        with quiet(), seeded(0):  # an absent pooler gets random weights, which must not move the caller's generator
            model, report = _body_class(config).from_pretrained(
                str(folder),
                config=config,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: model.safetensors is damaged or does not fit: {error}") from error
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key and "decoder" not in key)
    if missing:
        some = ", ".join(missing[:3])
        raise CheckpointError(f"{folder}: {len(missing)} weights are missing, such as {some}: not a whole checkpoint")
    return _trimmed(model)


def body_from_facts(facts: dict[str, Any]) -> Any:
    """A transformer with random weights from what `body_facts` gave: weights are loaded into it afterwards."""
    config = _known_config(facts.get("model_type"), "saved encoder")(
        **{key: value for key, value in facts.items() if key != "model_type"}
    )
    with quiet(), seeded(0):
        return _trimmed(_body_class(config).from_config(config, dtype=torch.float32))


def body_facts(model: Any) -> dict[str, Any]:
    """A transformer's configuration as JSON types, without what depends on the machine or the library's version."""
    facts = json.loads(model.config.to_json_string(use_diff=False))
    return {key: value for key, value in sorted(facts.items()) if key not in _VOLATILE}


def position_limit(model: Any) -> int | None:
    """The most tokens a transformer has positions for, or None where positions have no end."""
    tables = [
        part
        for path, part in model.named_modules()
        if path.endswith("position_embeddings") and isinstance(part, nn.Embedding)
    ]
    if tables:  # RoBERTa and its kin count positions from behind the padding id
        return tables[0].num_embeddings - (0 if tables[0].padding_idx is None else tables[0].padding_idx + 1)
    limit = getattr(model.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def load_tokenizer(folder: Path, model: Any, lowercase: bool) -> tuple[Tokenizer, tuple[str, ...], int | None]:
    """The tokeniser of a folder, which inputs it gives that the model takes, and the length that it names.

    Raises CheckpointError for a tokeniser that transformers can't turn into a fast one.
    """
    from transformers import AutoTokenizer

    if (folder / "tokenizer_config.json").is_file():
        no_code(folder / "tokenizer_config.json", "AutoTokenizer")
    with quiet():
        wrapper = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    if not wrapper.is_fast:
        raise CheckpointError(f"{folder}: its tokeniser {type(wrapper).__name__} has no fast form (tokenizer.json)")
    tokenizer = Tokenizer.from_str(wrapper.backend_tokenizer.to_str())
    if lowercase and "Lowercase" not in str(tokenizer.normalizer):
        parts = [normalizers.Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer is not None else [])]
        tokenizer.normalizer = normalizers.Sequence(parts)
    pad = next((i for i in (model.config.pad_token_id, wrapper.pad_token_id) if i is not None), 0)
    tokenizer.enable_padding(pad_id=pad)  # on the right, also for models that ask for the left: see HfText
    takes = inspect.signature(model.forward).parameters
    inputs = tuple(name for name in _INPUTS if name in wrapper.model_input_names and name in takes)
    length = wrapper.model_max_length
    return tokenizer, inputs, length if length < 1 << 24 else None  # transformers says 1e30 for "none named"
