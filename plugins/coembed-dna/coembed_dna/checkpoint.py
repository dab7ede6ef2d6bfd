"""Published checkpoints that read sequences: the base of `dna/hf` and of the protein encoders."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.items import content_key
from coembed.spec import EncoderSpec
from coembed_dna.kmer import check_prompt
from coembed_dna.vocabulary import Vocabulary, load_vocabulary
from coembed_dna.windows import batch_windows, lay_out, windows
from coembed_text import checkpoint
from coembed_text.depth import find_blocks, first_layers
from coembed_text.locate import locate
from coembed_text.packaged import CheckpointError

__all__ = ["SequenceCheckpoint"]

_SETTINGS = "sequence.json"
_UNNAMED = 1024  # tokens a window, where a model names no limit (T5)


class SequenceCheckpoint(Encoder):
    """Base of checkpoints: a subclass names its `letters`, `clean`s its items, and writes a `tiny` checkpoint.

    `model` is a folder, or `org/repo` with `revision`, 40 hexadecimal digits; None takes what the spec pins. Only
    architectures in transformers itself and safetensors are read; no code of a checkpoint is run. Token features are
    those of the sequence's tokens, special ones left out; one vector is their mean. A sequence of more than
    `max_length` tokens, special ones included, is read in windows (see `coembed_dna.windows`). Raises CheckpointError
    (a ValueError) for a checkpoint that can't be found, is not pinned, or asks for something unknown.
    """

    letters: ClassVar[str]
    model: Any
    both_strands = False

    def __init__(
        self, spec: EncoderSpec, *, model: str | None = None, revision: str | None = None, max_length: int | None = None
    ) -> None:
        super().__init__(spec)
        found = locate(spec.name, model, revision, spec.weights)
        refuse_code(found.folder)
        self.source = found.source
        self._set_model(checkpoint.load_body(found.folder))
        self.vocabulary = load_vocabulary(found.folder, self.model.config, self.letters)
        limit = checkpoint.position_limit(self.model)
        around = len(self.vocabulary.before) + len(self.vocabulary.after)
        if max_length is not None and (max_length <= around or (limit is not None and max_length > limit)):
            raise ValueError(f"{spec.name}: max_length={max_length} must lie in {around + 1}..{limit or 'any length'}")
        known = [length for length in (max_length or self.vocabulary.length, limit) if length is not None]
        self.max_length = min(known, default=_UNNAMED)
        if spec.dim is not None and self.dim != spec.dim:
            raise CheckpointError(f"{spec.name}: the spec says dim {spec.dim}, but {found.source} gives {self.dim}")

    def _set_model(self, model: Any) -> None:
        if hasattr(model, "contact_head"):
            model.contact_head = None  # ESM's: it reads attention maps, and no vector depends on it
        self.model = model
        self.dim = int(model.config.hidden_size)
        count = int(model.config.num_hidden_layers)
        self._blocks = find_blocks(model, count)
        self.layers = count if self._blocks is not None else None

    @abstractmethod
    def clean(self, item: Any, position: int) -> str:
        """An item as an upper-case string in letters of the vocabulary; raises BadItem."""

    def strands(self, text: str) -> list[str]:
        """What is read of a cleaned sequence: it alone, unless a subclass adds its other strand."""
        return [text]

    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's layers, input side first."""
        return [] if self._blocks is None else list(self.model.get_submodule(self._blocks))

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Sequences to `input_ids`, `attention_mask` and `keep`, [B, S, W, T]: strands and windows of each."""
        check_prompt(self.spec.name, prompt)
        words = self.vocabulary
        size = self.max_length - len(words.before) - len(words.after)
        found = [self.strands(self.clean(item, position)) for position, item in enumerate(items)]
        ids_of = iter(words.rows([text for texts in found for text in texts]))
        rows = [
            [[[*words.before, *w, *words.after] for w in windows(next(ids_of), size)] for _ in texts] for texts in found
        ]
        ids, mask = batch_windows(rows, words.pad)
        places = mask.cumsum(-1)
        keep = mask & (places > len(words.before)) & (places <= mask.sum(-1, keepdim=True) - len(words.after))
        return {"input_ids": ids, "attention_mask": mask.long(), "keep": keep}

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Features of the sequence's tokens [B, T, dim], the windows' end to end; `layer=k` runs layers 1..k only."""
        self.check_layer(layer)
        model = self.model
        if layer is not None and self._blocks is not None:
            model = first_layers(model, self._blocks, layer)
        mask = batch["attention_mask"].bool()
        real = mask.any(-1)
        states = model(input_ids=batch["input_ids"][real], attention_mask=batch["attention_mask"][real])
        return Embedding(*lay_out(mask, batch["keep"], states.last_hidden_state), self.sizes)

    def size(self, item: Any) -> int:
        """The number of tokens of a sequence, all windows together."""
        return len(self.vocabulary.rows([self.clean(item, 0)])[0])

    def prompt_for(self, role: str | None = None, prompt: str | None = None) -> str:
        """As for any encoder, but a prompt is refused before anything runs."""
        check_prompt(self.spec.name, prompt)
        return super().prompt_for(role, prompt)

    def key(self, item: Any) -> bytes:
        """A digest of the cleaned sequence."""
        return content_key(self.clean(item, 0))

    def options(self) -> dict[str, Any]:
        """What else a subclass was told, to be saved with it."""
        return {}

    def set_options(self, **options: Any) -> None:
        """Take what `options` gave."""

    def save_assets(self, folder: Path) -> None:
        """Write the vocabulary and sequence.json: configuration and length, without the weights."""
        self.vocabulary.save(folder)
        facts = {"max_length": self.max_length, "options": self.options(), "model": checkpoint.body_facts(self.model)}
        (folder / _SETTINGS).write_text(json.dumps(facts, indent=1, sort_keys=True), "utf-8")

    def load_assets(self, folder: Path) -> None:
        """Read what `save_assets` wrote; the transformer is built anew if its configuration differs."""
        device, path = self.device, folder / _SETTINGS
        try:
            settings = json.loads(path.read_text("utf-8"))
            self.max_length, facts = int(settings["max_length"]), settings["model"]
            self.set_options(**settings["options"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is not what {type(self).__name__} writes: {error!r}") from error
        self.vocabulary = Vocabulary.load(folder)
        if facts != checkpoint.body_facts(self.model):
            self._set_model(checkpoint.body_from_facts(facts))
            self.to(device)

    @classmethod
    def open(cls, spec: EncoderSpec, folder: Path) -> Self:
        """Build from what `save` wrote alone: the checkpoint it came from is not asked for."""
        encoder = cls.tiny(spec)
        encoder.restore(folder)  # replaces every part of the tiny one
        return encoder

    @classmethod
    @abstractmethod
    def write_tiny(cls, spec: EncoderSpec, folder: Path) -> None:
        """Write a small checkpoint with random weights, of the spec's width, to a folder."""

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers with random weights, of the spec's width: no network, no download."""
        with TemporaryDirectory() as folder:
            cls.write_tiny(spec, Path(folder))
            told = {key: value for key, value in spec.kwargs.items() if key not in ("model", "revision", "max_length")}
            encoder = cls(spec, model=folder, **told)
        encoder.source = None  # made here
        return encoder


def refuse_code(folder: Path) -> None:
    """Raise CheckpointError for a checkpoint whose architecture is code that it brings along."""
    try:
        asked = json.loads((folder / "config.json").read_text("utf-8")).get("auto_map") or {}
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / 'config.json'} can't be read as a configuration: {error}") from error
    if asked:
        code = ", ".join(sorted({str(value) for value in asked.values()})[:2])
        raise CheckpointError(
            f"{folder}: its architecture is code that it brings along (auto_map: {code}), and no code of a checkpoint "
            "is ever run; take one whose architecture is in transformers itself"
        )
