"""CheckpointAudio: the base of encoders that wrap a published model with its own feature extractor."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from coembed.spec import EncoderSpec
from coembed_audio import checkpoint
from coembed_audio.locate import CheckpointError, locate
from coembed_audio.read import duration, read_wave
from coembed_audio.samples import check_prompt
from coembed_audio.sounds import SoundEncoder
from coembed_audio.windows import spread, stack

_SETTINGS = "audio.json"


class CheckpointAudio(SoundEncoder):
    """Sounds through a model's own feature extractor; a subclass names the classes and adds `prepare` and `forward`.

    Items are what `coembed_audio.read.EXPECTED` names. A recording longer than `span` samples is cut into windows of
    that length, spread evenly so that every sample is in one or two of them (`coembed_audio.windows.spread`); their
    tokens stand in one row, in order, and are pooled together: none is lost.
    """

    extractor: Any
    span: int  # samples a window

    @classmethod
    @abstractmethod
    def kinds(cls) -> tuple[Any, Any, Any]:
        """The classes of configuration, model and feature extractor in transformers."""

    @abstractmethod
    def settle(self, model: Any, extractor: Any) -> None:
        """Take a model and its extractor over: `extractor`, `span`, modules, `pooling`, `layers`, widths."""

    @abstractmethod
    def prepare(self, window: np.ndarray) -> Tensor:
        """One window `[n]`, at most `span` samples, as features `[..., m]`, without what the batch decides."""

    @abstractmethod
    def config(self) -> Any:
        """The configuration from which an equal model can be built."""

    @property
    def rate(self) -> int:
        """Samples a second that the model takes."""
        return int(self.extractor.sampling_rate)

    def from_checkpoint(self, model: str | None, revision: str | None) -> None:
        """Load a checkpoint into this encoder; raises CheckpointError naming it."""
        folder, source = locate(self.spec.name, model, revision, self.spec.weights)
        config_kind, model_kind, extractor_kind = self.kinds()
        config = checkpoint.read_config(folder, config_kind)
        extractor = checkpoint.read_extractor(folder, extractor_kind)
        self.settle(checkpoint.load(folder, model_kind, self.model_config(config)), extractor)
        self.source = source
        if self.spec.dim is not None and self.dim != self.spec.dim:
            raise CheckpointError(f"{self.spec.name}: the spec says dim {self.spec.dim}, but {source} gives {self.dim}")

    def model_config(self, config: Any) -> Any:
        """What the model's class is built from, where that is not the checkpoint's whole configuration."""
        return config

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Sounds to `features` [B, W, ..., m] and `lengths` [B, W], samples a window (0: none); raises BadItem."""
        check_prompt(self.spec.name, prompt)
        waves = [read_wave(item, self.rate, position) for position, item in enumerate(items)]
        cut = [[wave[start : start + self.span] for start in spread(len(wave), self.span)] for wave in waves]
        return {
            "features": stack([[self.prepare(window) for window in row] for row in cut]),
            "lengths": stack([[torch.tensor([len(window)]) for window in row] for row in cut]).squeeze(-1),
        }

    def size(self, item: Any) -> int:
        """The number of samples: batches hold sounds of like length."""
        return duration(item, self.rate)

    def facts(self) -> dict[str, Any]:
        """The settings that are neither in the model's configuration nor in the extractor's."""
        return {}

    def restore_facts(self, facts: dict[str, Any]) -> None:
        """Take over what `facts` gave."""

    def save_assets(self, folder: Path) -> None:
        """Write audio.json: the configurations of model and extractor, without the weights."""
        saved = {
            "model": checkpoint.facts(self.config()),
            "extractor": json.loads(self.extractor.to_json_string()),
            "settings": self.facts(),
        }
        (folder / _SETTINGS).write_text(json.dumps(saved, indent=1, sort_keys=True), "utf-8")

    def load_assets(self, folder: Path) -> None:
        """Read what `save_assets` wrote; the model is built anew, for the weights that come next."""
        device, path = self.device, folder / _SETTINGS
        config_kind, model_kind, extractor_kind = self.kinds()
        try:
            saved = json.loads(path.read_text("utf-8"))
            config = checkpoint.from_facts(config_kind, saved["model"])
            extractor = extractor_kind.from_dict(saved["extractor"])
            self.restore_facts(saved["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} is not what {type(self).__name__} writes: {error!r}") from error
        self.settle(checkpoint.build(model_kind, self.model_config(config)), extractor)
        self.to(device)

    @classmethod
    def open(cls, spec: EncoderSpec, folder: Path) -> Self:
        """Build from what `save` wrote alone: the checkpoint it came from is not asked for."""
        encoder = cls.tiny(spec)
        encoder.restore(folder)  # replaces every part of the tiny one
        encoder.spec = spec
        return encoder
