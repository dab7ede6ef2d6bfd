"""`audio/wav2vec2`: any wav2vec 2.0 checkpoint of transformers' Wav2Vec2Model as an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch
from coembed.nn import POOLINGS
from coembed.spec import EncoderSpec
from coembed_audio.base import CheckpointAudio
from coembed_audio.checkpoint import first_layers
from coembed_audio.locate import CheckpointError
from coembed_audio.windows import gather


class Wav2Vec2Audio(CheckpointAudio):
    """Encode sound with a wav2vec 2.0 checkpoint (Baevski et al. 2020): one token a 20 ms, pooled by `pooling`.

    `model` is a folder, or `org/repo` with `revision` (or `org/repo@revision`); None takes the weights that the spec
    pins. Recordings longer than `window` seconds are windowed; the tokens of all windows are pooled together. Every
    clip comes out as it does alone: padding is masked, and the group norm of base models, which averages over time,
    runs on clips of one length at a time. `layer=k` runs the first k layers. SpecAugment and layer drop are switched
    off. Raises CheckpointError for a checkpoint that can't be used, ValueError for an argument.

    >>> encoder = Wav2Vec2Audio.tiny(EncoderSpec(name="audio/wav2vec2", modality="audio", dim=None, target="a:B"))
    >>> encoder.encode(encoder.samples()).values.shape
    torch.Size([5, 1, 32])
    """

    model: Any

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        model: str | None = None,
        revision: str | None = None,
        window: float = 30.0,
        pooling: str = "mean",
    ) -> None:
        super().__init__(spec)
        if not window >= 1:
            raise ValueError(f"{spec.name}: window={window} must be 1 second or more")
        if pooling not in POOLINGS:
            raise ValueError(f"{spec.name}: pooling={pooling!r} is unknown: choose from {', '.join(POOLINGS)}")
        self.window, self.pooling_name = window, pooling
        self.from_checkpoint(model, revision)

    @classmethod
    def kinds(cls) -> tuple[Any, Any, Any]:
        """Wav2Vec2's classes."""
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        return Wav2Vec2Config, Wav2Vec2Model, Wav2Vec2FeatureExtractor

    def model_config(self, config: Any) -> Any:
        """The configuration without what disturbs training on short clips; an adapter is refused."""
        if config.add_adapter:
            raise CheckpointError(f"{self.spec.name}: checkpoints with add_adapter are not supported")
        config.mask_time_prob = config.mask_feature_prob = config.layerdrop = 0.0
        return config

    def settle(self, model: Any, extractor: Any) -> None:
        """Take over the model, whose tokens are its last hidden states."""
        self.model, self.extractor = model, extractor
        config = model.config
        self.span = round(self.window * self.rate)
        self.layers = int(config.num_hidden_layers)
        self.token_dim = self.dim = int(config.hidden_size)
        self.pooling = POOLINGS[self.pooling_name](self.dim)
        self._kernels = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self._shortest = 1  # the samples that make one frame
        for kernel, stride in reversed(self._kernels):
            self._shortest = (self._shortest - 1) * stride + kernel

    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    def facts(self) -> dict[str, Any]:
        """Window and pooling."""
        return {"window": self.window, "pooling": self.pooling_name}

    def restore_facts(self, facts: dict[str, Any]) -> None:
        """Take window and pooling over."""
        self.window, self.pooling_name = facts["window"], facts["pooling"]

    def prepare(self, window: np.ndarray) -> Tensor:
        """A window as the extractor gives it: of zero mean and unit variance where the checkpoint says so."""
        values = self.extractor(window, sampling_rate=self.rate, return_tensors="np")["input_values"][0]
        short = self._shortest - len(values)
        return torch.from_numpy(np.pad(values.astype(np.float32), (0, max(0, short))))

    def _frames(self, lengths: Tensor) -> Tensor:
        for kernel, stride in self._kernels:
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def _convolved(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Features `[N, T, C]` of windows `[N, S]` before the transformer; padding reaches no real frame."""
        features: Tensor
        if self.model.config.feat_extract_norm != "group":
            features = self.model.feature_extractor(values).transpose(1, 2)
            return features
        alike = [lengths == length for length in lengths.unique().tolist()]
        parts = [self.model.feature_extractor(values[rows, : int(lengths[rows][0])]).transpose(1, 2) for rows in alike]
        features = parts[-1].new_zeros(len(values), *parts[-1].shape[1:])  # the last one is the longest
        for rows, part in zip(alike, parts, strict=True):
            features[rows, : part.shape[1]] = part
        return features

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Windows to tokens [B, T, hidden]; `layer=k` runs layers 1..k only."""
        self.check_layer(layer)
        real = batch["lengths"] > 0
        values = batch["features"][real].to(next(self.model.parameters()).dtype)  # [N, S]
        lengths = batch["lengths"][real].clamp_min(self._shortest)
        features = self._convolved(values, lengths)
        mask = torch.arange(features.shape[1], device=features.device) < self._frames(lengths)[:, None]
        hidden, _ = self.model.feature_projection(features)
        states = first_layers(self.model.encoder, "layers", layer)(hidden, attention_mask=mask).last_hidden_state
        return gather(states, mask, real)

    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's layers, input side first."""
        return list(self.model.encoder.layers)

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers of width 32 behind three convolutions, on 16 kHz, with windows of one second."""
        from coembed_audio.tiny import from_tiny, wav2vec2

        return from_tiny(cls, spec, wav2vec2, window=1.0)
