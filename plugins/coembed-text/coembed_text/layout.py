"""The sentence-transformers layout of a folder: what comes after the transformer, read as data, never imported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from coembed_text.packaged import CheckpointError

#: The six ways of the layout to one vector; several are concatenated. The order is that of the old boolean keys.
MODES = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_HOMES = {"Transformer": "base", "Dense": "base", "Normalize": "base"}  # the others live in sentence_transformer
#: What `type` in modules.json may say, in the names of versions up to 5 and from 6 on.
KINDS = {
    name: kind
    for kind in ("Transformer", "Pooling", "Dense", "Normalize", "StaticEmbedding")
    for module in [f"sentence_transformers.{_HOMES.get(kind, 'sentence_transformer')}.modules"]
    for snake in ["static_embedding" if kind == "StaticEmbedding" else kind.lower()]
    for name in (
        f"sentence_transformers.models.{kind}",
        f"sentence_transformers.models.{kind}.{kind}",
        f"{module}.{kind}",
        f"{module}.{snake}.{kind}",
    )
}
#: The text transformer's settings: one file, under the name of whichever model it first was.
_BODY_CONFIGS = [
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]


@dataclass(frozen=True)
class Step:
    """One module after pooling: "normalize", or "dense" with its sizes, activation and the folder of its weights."""

    kind: str
    folder: str = ""
    width: int = 0  # in
    out: int = 0
    bias: bool = True
    activation: str = ""


@dataclass(frozen=True)
class Layout:
    """A sentence-transformers folder as plain facts; the defaults are those of a plain Hugging Face checkpoint."""

    first: str = "Transformer"  # kind of the first module
    folder: str = ""  # where its files are
    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    steps: tuple[Step, ...] = ()
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    max_length: int | None = None
    lowercase: bool = False

    def with_overrides(
        self, pooling: str | Sequence[str] | None, normalize: bool | None, pool_prompt: bool | None = None
    ) -> Layout:
        """The layout with another pooling, with or without normalisation at the end or the prompt's tokens in it.

        Raises CheckpointError.
        """
        changed = self if pooling is None else replace(self, pooling=modes(pooling, "pooling="))
        changed = changed if pool_prompt is None else replace(changed, include_prompt=pool_prompt)
        if normalize is None:
            return changed
        steps = changed.steps
        while steps and steps[-1].kind == "normalize":
            steps = steps[:-1]
        return replace(changed, steps=(*steps, Step("normalize")) if normalize else steps)


def modes(given: str | Sequence[str], where: str) -> tuple[str, ...]:
    """Pooling modes as a tuple, each one known; raises CheckpointError."""
    found = (given,) if isinstance(given, str) else tuple(given)
    for mode in found:
        if mode not in MODES:
            raise CheckpointError(f"{where} pooling mode {mode!r} is unknown: use {', '.join(MODES)}")
    if not found:
        raise CheckpointError(f"{where} names no pooling mode: use {', '.join(MODES)}")
    return found


def read_layout(folder: Path) -> Layout:
    """The layout of a folder; a folder without modules.json is a plain checkpoint, pooled by the mean.

    Raises CheckpointError naming the module, the setting or the file that is not understood.
    """
    listing = folder / "modules.json"
    if not listing.is_file():
        return Layout()
    modules = sorted(_json(listing), key=lambda module: module.get("idx", 0))
    kinds = [KINDS.get(module.get("type", "")) for module in modules]
    for module, kind in zip(modules, kinds, strict=True):
        if kind is None:
            known = "Transformer, StaticEmbedding, Pooling, Dense and Normalize of sentence_transformers"
            raise CheckpointError(
                f"{listing}: module {module.get('name', '?')!r} of type {module.get('type')!r} is unknown; known are "
                f"{known}, and no code of a checkpoint is ever run"
            )
    if not kinds or kinds[0] not in ("Transformer", "StaticEmbedding"):
        raise CheckpointError(f"{listing}: the first module must be a Transformer or a StaticEmbedding, got {kinds}")
    folders = [_inside(listing, str(module.get("path", ""))) for module in modules]
    layout = Layout(first=kinds[0], folder=folders[0])
    if layout.first == "Transformer":
        layout = _body(folder / layout.folder, layout)
        if kinds[1:2] != ["Pooling"]:
            raise CheckpointError(f"{listing}: a Pooling must follow the Transformer, got {kinds[1:2] or 'nothing'}")
        layout = _pooling(folder / folders[1] / "config.json", layout)
    rest = range(2 if layout.first == "Transformer" else 1, len(kinds))
    steps = tuple(_step(folder, str(kinds[i]), folders[i]) for i in rest)
    return _prompts(folder / "config_sentence_transformers.json", replace(layout, steps=steps))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read as JSON: {error}") from error


def _inside(listing: Path, path: str) -> str:
    """A module's folder, refused when it leads out of the checkpoint."""
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in path:
        raise CheckpointError(f"{listing}: path {path!r} leads out of the checkpoint's folder")
    return "" if str(parts) == "." else str(parts)


def _body(folder: Path, layout: Layout) -> Layout:
    path = next((folder / name for name in _BODY_CONFIGS if (folder / name).is_file()), None)
    config = {} if path is None else _json(path)
    text = config.get("modality_config", {}).get("text", {})
    expected = {
        "transformer_task": (config.get("transformer_task", "feature-extraction"), "feature-extraction"),
        "modality_config text method": (text.get("method", "forward"), "forward"),
        "modality_config text output": (text.get("method_output_name", "last_hidden_state"), "last_hidden_state"),
        "processing_kwargs": (config.get("processing_kwargs") or None, None),
        "query_expansion": (config.get("query_expansion"), None),
        "query_length": (config.get("query_length"), None),
        "document_length": (config.get("document_length"), None),
    }
    for setting, (got, supported) in expected.items():
        if got != supported:
            raise CheckpointError(f"{path}: {setting} = {got!r} is not supported, only {supported!r}")
    return replace(layout, max_length=config.get("max_seq_length"), lowercase=bool(config.get("do_lower_case", False)))


def _pooling(path: Path, layout: Layout) -> Layout:
    config = _json(path)
    given = config.get("pooling_mode")
    if given is None:  # up to version 5: one boolean a mode
        given = [mode for mode, key in MODES.items() if config.get(key)] or ["mean"]
    return replace(layout, pooling=modes(given, f"{path}:"), include_prompt=bool(config.get("include_prompt", True)))


def _step(folder: Path, kind: str, path: str) -> Step:
    file = folder / path / "config.json"
    if kind == "Normalize":
        config = _json(file) if file.is_file() else {}
        _only_vectors(file, config)
        return Step("normalize")
    if kind != "Dense":
        raise CheckpointError(f"{folder / 'modules.json'}: a {kind} can't come after the pooling")
    config = _json(file)
    _only_vectors(file, config)
    if config.get("use_residual"):
        raise CheckpointError(f"{file}: use_residual is not supported")
    return Step(
        "dense",
        folder=path,
        width=int(config["in_features"]),
        out=int(config["out_features"]),
        bias=bool(config.get("bias", True)),
        activation=str(config.get("activation_function") or "torch.nn.modules.linear.Identity"),
    )


def _only_vectors(file: Path, config: dict[str, Any]) -> None:
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise CheckpointError(f"{file}: {key} = {config[key]!r} is not supported, only 'sentence_embedding'")


def _prompts(path: Path, layout: Layout) -> Layout:
    config = _json(path) if path.is_file() else {}
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise CheckpointError(f"{path}: this is a {kind}, not a SentenceTransformer: it gives no single vectors")
    prompts = {str(role): str(text or "") for role, text in (config.get("prompts") or {}).items()}
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise CheckpointError(f"{path}: default_prompt_name {default!r} is none of its prompts: {', '.join(prompts)}")
    return replace(layout, prompts=prompts, default_prompt=prompts[default] if default is not None else "")
