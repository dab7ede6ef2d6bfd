"""`audio/clap-text`: the text half of any CLAP checkpoint."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from coembed import CoembedWarning
from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.items import BadItem, describe
from coembed.spec import EncoderSpec
from coembed_audio import checkpoint
from coembed_audio.locate import CheckpointError, locate

_SETTINGS = "clap_text.json"
_ENDLESS = 1 << 24  # transformers writes 1e30 where no length is named


class ProjectedText(nn.Module):
    """Take the first token through CLAP's pooler and projection: what it calls text embeddings."""

    def __init__(self, pooler: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.pooler, self.projection = pooler, projection

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, hidden] to [B, 1, dim]."""
        vectors = self.projection(self.pooler(x.pool("first").values))  # [B, dim]: the pooler takes the first token
        return replace(x, values=vectors[:, None], mask=x.present[:, None])


class ClapText(Encoder):
    """Encode text with a CLAP checkpoint (Wu et al. 2023), into the space of its sound half, `audio/clap`.

    `model` is a folder, or `org/repo` with `revision` (or `org/repo@revision`); None takes the weights that the spec
    pins. Longer texts than the checkpoint takes are cut, with a CoembedWarning once. `layer=k` runs the first k
    layers. Vectors are not normalised, as in `ClapTextModelWithProjection`. Raises CheckpointError for a checkpoint
    that can't be used.

    >>> encoder = ClapText.tiny(EncoderSpec(name="audio/clap-text", modality="text", dim=None, target="a:B"))
    >>> encoder.encode(["a dog barks", "rain"]).values.shape
    torch.Size([2, 1, 24])
    """

    model: Any

    def __init__(self, spec: EncoderSpec, *, model: str | None = None, revision: str | None = None) -> None:
        from transformers import ClapConfig, ClapTextModelWithProjection

        super().__init__(spec)
        folder, source = locate(spec.name, model, revision, spec.weights)
        config = checkpoint.read_config(folder, ClapConfig)
        tokenizer, length = _read_tokenizer(folder)
        self._settle(checkpoint.load(folder, ClapTextModelWithProjection, config.text_config), config)
        self._use(tokenizer, length)
        self.source = source
        if spec.dim is not None and self.dim != spec.dim:
            raise CheckpointError(f"{spec.name}: the spec says dim {spec.dim}, but {source} gives {self.dim}")
        # "query" and "document" always exist, so that a search asks every text encoder in the same words
        self.prompts = {"query": "", "document": ""} | dict(spec.prompts)

    def _settle(self, model: Any, config: Any) -> None:
        self._config = config
        self.pooling = ProjectedText(model.text_model.pooler, model.text_projection)
        self.model = model.text_model
        self.model.pooler = None  # it is in the pooling
        self.layers = int(self.model.config.num_hidden_layers)
        self.token_dim = int(self.model.config.hidden_size)
        self.dim = int(self.model.config.projection_dim)

    def _use(self, tokenizer: Tokenizer, length: int) -> None:
        text = self._config.text_config
        self.max_length = min(length, text.max_position_embeddings - text.pad_token_id - 1)  # counted from behind it
        tokenizer.enable_truncation(self.max_length)
        tokenizer.enable_padding(
            pad_id=text.pad_token_id, pad_token=tokenizer.id_to_token(text.pad_token_id) or "<pad>"
        )
        self.tokenizer, self._warned = tokenizer, False

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Texts to `input_ids` and `attention_mask` [B, T]; raises BadItem, warns once if something is cut."""
        found = self.tokenizer.encode_batch([prompt + self._text(item, i) for i, item in enumerate(items)])
        cut = sum(bool(encoding.overflowing) for encoding in found)
        if cut and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.spec.name}: {cut} of {len(items)} texts in this batch are longer than {self.max_length} tokens "
                "and were cut (said once)",
                CoembedWarning,
                stacklevel=2,
            )
        return {
            "input_ids": torch.tensor([encoding.ids for encoding in found]),
            "attention_mask": torch.tensor([encoding.attention_mask for encoding in found]),
        }

    def _text(self, item: Any, position: int) -> str:
        if not isinstance(item, str):
            raise BadItem(position, describe(item), "a string")
        try:
            item.encode()
        except UnicodeEncodeError:
            raise BadItem(position, describe(item), "valid Unicode, without lone surrogates") from None
        return item

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Token features [B, T, hidden]; `layer=k` runs layers 1..k only."""
        self.check_layer(layer)
        mask = batch["attention_mask"]
        model = checkpoint.first_layers(self.model, "encoder.layer", layer)
        states = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        return Embedding(states, mask.bool(), self.sizes)

    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's layers, input side first."""
        return list(self.model.encoder.layer)

    def size(self, item: Any) -> int:
        """The number of tokens of a text, after the cut."""
        return len(self.tokenizer.encode(item).ids)

    def read(self, path: Path) -> list[str]:
        """The whole text file as one item; raises ValueError for what is not UTF-8 text."""
        try:
            return [Path(path).read_text(encoding="utf-8")]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: UTF-8 text is expected ({error})") from error

    def save_assets(self, folder: Path) -> None:
        """Write tokenizer.json and clap_text.json: configuration and length, without the weights."""
        self.tokenizer.save(str(folder / "tokenizer.json"))
        saved = {"model": checkpoint.facts(self._config), "max_length": self.max_length, "prompts": self.prompts}
        (folder / _SETTINGS).write_text(json.dumps(saved, indent=1, sort_keys=True), "utf-8")

    def load_assets(self, folder: Path) -> None:
        """Read what `save_assets` wrote; the model is built anew, for the weights that come next."""
        from transformers import ClapConfig, ClapTextModelWithProjection

        device, path = self.device, folder / _SETTINGS
        try:
            saved = json.loads(path.read_text("utf-8"))
            config = checkpoint.from_facts(ClapConfig, saved["model"])
            length, self.prompts = int(saved["max_length"]), dict(saved["prompts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is not what {type(self).__name__} writes: {error!r}") from error
        self._settle(checkpoint.build(ClapTextModelWithProjection, config.text_config), config)
        self._use(Tokenizer.from_file(str(folder / "tokenizer.json")), length)
        self.to(device)

    @classmethod
    def open(cls, spec: EncoderSpec, folder: Path) -> Self:
        """Build from what `save` wrote alone: the checkpoint it came from is not asked for."""
        encoder = cls.tiny(spec)
        encoder.restore(folder)  # replaces every part of the tiny one
        encoder.spec = spec
        return encoder

    @classmethod
    def samples(cls) -> Sequence[str]:
        """A few texts that name sounds."""
        return ["a dog barks", "rain on a tin roof", "the sound of a cymbal, struck softly and left to ring", "hum"]

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers of width 32 over bytes."""
        from coembed_audio.tiny import clap, from_tiny

        return from_tiny(cls, spec, clap)


def _read_tokenizer(folder: Path) -> tuple[Tokenizer, int]:
    """The tokeniser of a folder and the most tokens that it names; raises CheckpointError."""
    path, facts = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} has no tokenizer.json: the texts of this checkpoint can't be read")
    try:
        named = json.loads(facts.read_text("utf-8")).get("model_max_length") if facts.is_file() else None
        return Tokenizer.from_file(str(path)), int(min(named or _ENDLESS, _ENDLESS))
    except Exception as error:  # tokenizers raises plain Exception
        raise CheckpointError(f"{path} or {facts.name} can't be read: {error}") from error
