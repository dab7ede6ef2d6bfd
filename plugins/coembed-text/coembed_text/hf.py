"""`text/hf`: any Hugging Face or sentence-transformers checkpoint as an encoder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch
from coembed.nn.prompt import prompt_length
from coembed.packed import Pack, PackedEncoder, Row
from coembed.spec import EncoderSpec
from coembed_text import checkpoint, packing
from coembed_text.cuts import Cuts
from coembed_text.depth import after_layers, find_blocks, first_layers
from coembed_text.head import build_head
from coembed_text.layout import Layout, Step, read_layout
from coembed_text.locate import locate
from coembed_text.packaged import CheckpointError
from coembed_text.texts import SAMPLES, checked, read_file

_SETTINGS = "text.json"
_OF = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class HfText(PackedEncoder):
    """Encode texts with a checkpoint: its transformer, tokeniser, pooling, normalisation and prompts.

    `model` is a folder, `org/repo` with `revision` (or `org/repo@revision`), or `package:NAME`; None takes the weights
    that the spec pins. A folder in the sentence-transformers layout is read as that library reads it; a plain
    checkpoint is pooled by the mean. `pooling` (one or several of cls, max, mean, mean_sqrt_len_tokens, weightedmean,
    lasttoken), `normalize`, `prompts` (role to prefix), `max_length` (tokens) and `pool_prompt` (False: a prompt is
    read, but only the text's own tokens are given out and pooled) override what the files say. Weights are float32 and
    come from safetensors only. Longer texts are cut, with a CoembedWarning that counts them.

    Rows are padded on the right, so that a text's tokens have the same positions in any batch. `layer=k` runs the
    first k layers and whatever the model does after its last. Raises CheckpointError (a ValueError) for a checkpoint
    that can't be found, is not pinned, or asks for something unknown.

    >>> encoder = HfText.tiny(EncoderSpec(name="text/hf", modality="text", dim=None, target="coembed_text.hf:HfText"))
    >>> encoder.encode(["a cat", "two dogs"], role="query").values.shape
    torch.Size([2, 1, 64])
    """

    model: Any

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        model: str | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        prompts: Mapping[str, str] | None = None,
        pool_prompt: bool | None = None,
    ) -> None:
        super().__init__(spec)
        found = locate(spec.name, model, revision, spec.weights)
        layout = read_layout(found.folder)
        if layout.first != "Transformer":
            raise CheckpointError(f"{spec.name}: {found.source} is a static table of token vectors: use text/static")
        self.source = found.source
        self.model = checkpoint.load_body(found.folder / layout.folder)
        tokenizer, self.inputs, named = checkpoint.load_tokenizer(
            found.folder / layout.folder, self.model, layout.lowercase
        )
        self._set_tokenizer(tokenizer)
        self._cuts = Cuts()
        self._set_length(max_length, layout.max_length or named)
        self._set_head(layout.with_overrides(pooling, normalize, pool_prompt), found.folder)
        if spec.dim is not None and self.dim != spec.dim:
            raise CheckpointError(f"{spec.name}: the spec says dim {spec.dim}, but {found.source} gives {self.dim}")
        # "query" and "document" always exist, so that a search asks every text encoder in the same words
        self.prompts = {"query": "", "document": ""} | layout.prompts | dict(spec.prompts) | dict(prompts or {})

    def _set_tokenizer(self, tokenizer: Tokenizer) -> None:
        self._padding: dict[str, Any] = tokenizer.padding or {}
        tokenizer.no_padding()  # `collate` pads, and what reads texts end to end wants none
        self.tokenizer = tokenizer

    def _set_length(self, given: int | None, named: int | None) -> None:
        limit = checkpoint.position_limit(self.model)
        if given is not None and (given < 3 or (limit is not None and given > limit)):
            raise ValueError(f"{self.spec.name}: max_length={given} must lie in 3..{limit or 'any length'}")
        known = [length for length in (given or named, limit) if length is not None]
        self.max_length: int | None = min(known, default=None)
        if self.max_length is not None:
            self.tokenizer.enable_truncation(self.max_length)

    def _set_head(self, layout: Layout, folder: Path | None) -> None:
        self.layout = layout
        self.token_dim = int(self.model.config.hidden_size)
        self.pooling, self.dim = build_head(layout, self.token_dim, folder)
        count = int(self.model.config.num_hidden_layers)
        self._blocks = find_blocks(self.model, count)
        self._first = packing.first_position(self.model, self.inputs)
        self.layers = count if self._blocks is not None else None

    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's layers, input side first; empty where layers share their weights."""
        return [] if self._blocks is None else list(self.model.get_submodule(self._blocks))

    def prompt_for(self, role: str | None = None, prompt: str | None = None) -> str:
        """The prefix of a role, the prompt given, or the checkpoint's default; ValueError for an unknown role."""
        if role is None and prompt is None:
            return self.layout.default_prompt
        return super().prompt_for(role, prompt)

    @property
    def packs(self) -> bool:
        """Whether the model reads texts end to end as it does alone, which was tried when it was loaded."""
        return self._first is not None

    def tokenize(self, items: Sequence[Any], prompt: str = "") -> list[Row]:
        """Texts to `tokenizers.Encoding`s, cut to `max_length`; raises BadItem."""
        encodings = self._encodings(items, prompt)
        return encodings

    def _encodings(self, items: Sequence[Any], prompt: str) -> list[Any]:
        encodings = self.tokenizer.encode_batch(checked(items, prompt))
        self._cuts.add(sum(bool(e.overflowing) for e in encodings), len(items), self.max_length, self.spec.name)
        return encodings

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Texts to `input_ids`, `attention_mask` [B, T] and, for checkpoints that leave the prompt out, `keep`."""
        encodings = self._encodings(items, prompt)
        length = max((len(e) for e in encodings), default=0)
        for encoding in encodings:
            encoding.pad(length, pad_id=self._padding.get("pad_id", 0))
        batch = {name: torch.tensor([getattr(e, _OF[name]) for e in encodings]) for name in self.inputs}
        batch["attention_mask"] = torch.tensor([e.attention_mask for e in encodings])
        hidden = torch.tensor(self.hidden_tokens(encodings, prompt), dtype=torch.long)
        if hidden.any():
            batch["keep"] = batch["attention_mask"] * (torch.arange(length) >= hidden[:, None])
        return batch

    def read_packed(self, rows: Sequence[Row], pack: Pack, layer: int | None = None) -> Tensor:
        """Encodings to the [N, hidden] of their tokens, end to end."""
        whole, device = pack.filled(), self.device
        inputs = {
            name: torch.tensor([number for row in rows for number in getattr(row, _OF[name])]) for name in self.inputs
        }
        inputs = {name: F.pad(tensor, (0, whole.size - pack.size)).to(device) for name, tensor in inputs.items()}
        positions = (whole.positions + (self._first or 0)).to(device)
        return packing.read(self._model(layer), inputs, whole.runs, positions)[: pack.size]

    def hidden_tokens(self, rows: Sequence[Row], prompt: str) -> list[int]:
        """The tokens before each text's own, which pooling leaves out where the checkpoint or `pool_prompt` says so.

        Raises ValueError if a prompt leaves no room for the text.
        """
        encodings: Sequence[Any] = rows
        if not prompt or self.layout.include_prompt:
            return [0] * len(rows)
        hidden = [prompt_length(encoding, len(prompt)) for encoding in encodings]
        for encoding, count in zip(encodings, hidden, strict=True):
            if encoding.overflowing and all(encoding.special_tokens_mask[count:]):
                raise ValueError(
                    f"{self.spec.name}: a prompt of {count} tokens fills max_length={self.max_length}, so that nothing "
                    "of the text is left to pool: shorten the prompt or raise max_length"
                )
        return [min(count, max(0, len(row) - 1)) for count, row in zip(hidden, encodings, strict=True)]

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Token features [B, T, hidden]; `layer=k` runs layers 1..k only."""
        self.check_layer(layer)
        states = self._model(layer)(**{name: batch[name] for name in self.inputs}).last_hidden_state
        return Embedding(states, batch.get("keep", batch["attention_mask"]).bool(), self.sizes)

    def hidden(self, batch: Batch, layers: Sequence[int]) -> list[Embedding]:
        """Token features after each of the layers named, in one pass through the transformer."""
        if self._blocks is None or type(self).forward is not HfText.forward:
            return super().hidden(batch, layers)
        self.check_layer(min(layers))
        self.check_layer(max(layers))
        inputs = {name: batch[name] for name in self.inputs}
        states = after_layers(self.model, self._blocks, layers, lambda view: view(**inputs).last_hidden_state)
        mask = batch.get("keep", batch["attention_mask"]).bool()
        return [Embedding(state, mask, self.sizes) for state in states]

    def _model(self, layer: int | None) -> Any:
        return self.model if layer is None or self._blocks is None else first_layers(self.model, self._blocks, layer)

    def run(self, items: Sequence[Any], *args: Any, **kwargs: Any) -> list[tuple[list[int], Embedding]]:
        """The engine under `encode`; tells at the end how many texts were cut."""
        with self._cuts.counting(self.spec.name, len(items)):
            return super().run(items, *args, **kwargs)

    def size(self, item: Any) -> int:
        """The number of tokens of a text, after the cut."""
        return len(self.tokenizer.encode_batch_fast([item])[0])

    def read(self, path: Path) -> list[str]:
        """The whole text file as one item; raises ValueError for what is not UTF-8 text."""
        return read_file(path)

    def save_assets(self, folder: Path) -> None:
        """Write tokenizer.json and text.json: configuration, pooling and length, without the weights."""
        whole = Tokenizer.from_str(self.tokenizer.to_str())
        whole.enable_padding(pad_id=self._padding.get("pad_id", 0))  # where the padding id is kept
        whole.save(str(folder / "tokenizer.json"))
        settings = {
            "max_length": self.max_length,
            "prompts": self.prompts,
            "inputs": self.inputs,
            "layout": asdict(self.layout),
            "model": checkpoint.body_facts(self.model),
        }
        (folder / _SETTINGS).write_text(json.dumps(settings, indent=1, sort_keys=True), "utf-8")

    def load_assets(self, folder: Path) -> None:
        """Read what `save_assets` wrote; the transformer is built anew if its configuration differs."""
        device, path = self.device, folder / _SETTINGS
        try:
            settings = json.loads(path.read_text("utf-8"))
            saved = settings["layout"]
            saved["steps"] = tuple(Step(**step) for step in saved["steps"])
            layout = Layout(**saved | {"pooling": tuple(saved["pooling"])})
            self.max_length, self.inputs = settings["max_length"], tuple(settings["inputs"])
            self.prompts, facts = settings["prompts"], settings["model"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is not what {type(self).__name__} writes: {error!r}") from error
        self._set_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))
        if facts != checkpoint.body_facts(self.model):
            self.model = checkpoint.body_from_facts(facts)
        self._set_head(layout, None)
        self.to(device)

    @classmethod
    def open(cls, spec: EncoderSpec, folder: Path) -> Self:
        """Build from what `save` wrote alone: the checkpoint it came from is not asked for."""
        encoder = cls.tiny(spec)
        encoder.restore(folder)  # replaces every part of the tiny one
        return encoder

    @classmethod
    def samples(cls) -> Sequence[str]:
        """A few texts that differ."""
        return list(SAMPLES)

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """A two-layer BERT over bytes with random weights, of the spec's width: no network, no download."""
        from coembed_text.tiny import kept_checkpoint

        encoder = cls(spec, model=kept_checkpoint(spec.dim or 64).name)
        encoder.source = None  # made here
        return encoder
