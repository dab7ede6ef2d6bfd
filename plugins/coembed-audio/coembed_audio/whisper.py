"""`audio/whisper`: the encoder half of any Whisper checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch
from coembed.spec import EncoderSpec
from coembed_audio.base import CheckpointAudio
from coembed_audio.checkpoint import first_layers
from coembed_audio.locate import CheckpointError
from coembed_audio.windows import gather


class WhisperAudio(CheckpointAudio):
    """Encode sound with Whisper's encoder (Radford et al. 2022): one token a 20 ms of sound, pooled by their mean.

    `model` is a folder, or `org/repo` with `revision` (or `org/repo@revision`); None takes the weights that the spec
    pins. Whisper pads every clip to 30 s, and so does this; the tokens of the padding are masked, so that pooling sees
    the sound alone. Longer recordings are windowed; the tokens of all windows are pooled together. `layer=k` runs the
    first k layers and the final norm. Raises CheckpointError for a checkpoint that can't be used.

    >>> encoder = WhisperAudio.tiny(EncoderSpec(name="audio/whisper", modality="audio", dim=None, target="a:B"))
    >>> encoder.encode(encoder.samples()).values.shape
    torch.Size([5, 1, 32])
    """

    model: Any

    def __init__(self, spec: EncoderSpec, *, model: str | None = None, revision: str | None = None) -> None:
        super().__init__(spec)
        self.from_checkpoint(model, revision)

    @classmethod
    def kinds(cls) -> tuple[Any, Any, Any]:
        """Whisper's classes."""
        from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

        return WhisperConfig, WhisperModel, WhisperFeatureExtractor

    def model_config(self, config: Any) -> Any:
        """The configuration with the smallest decoder, which is not kept, and without layer drop."""
        config.encoder_layerdrop = 0.0
        config.decoder_layers = 1
        return config

    def settle(self, model: Any, extractor: Any) -> None:
        """Take over the encoder; the decoder goes."""
        encoder = model.get_encoder()
        if extractor.nb_max_frames != 2 * encoder.config.max_source_positions:
            raise CheckpointError(
                f"{self.spec.name}: the extractor gives {extractor.nb_max_frames} frames, but the model takes "
                f"{2 * encoder.config.max_source_positions}"
            )
        extractor.dither = 0.0  # noise for training, which would make two encodings differ
        self.model, self.extractor = encoder, extractor
        self.span = int(extractor.n_samples)
        self.layers = int(encoder.config.encoder_layers)
        self.token_dim = self.dim = int(encoder.config.d_model)

    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    def prepare(self, window: np.ndarray) -> Tensor:
        """A window as log-mel features [mels, frames], padded to 30 s with silence."""
        found = self.extractor(window, sampling_rate=self.rate, return_tensors="np")["input_features"][0]
        return torch.from_numpy(np.asarray(found, dtype=np.float32))

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Windows to tokens [B, T, hidden], those of the padding masked; `layer=k` runs layers 1..k only."""
        self.check_layer(layer)
        real = batch["lengths"] > 0
        features = batch["features"][real].to(self.model.conv1.weight.dtype)  # [N, mels, frames]
        states = first_layers(self.model, "layers", layer)(features).last_hidden_state
        hop = 2 * int(self.extractor.hop_length)  # the second convolution halves the frames
        frames = (batch["lengths"][real] + hop - 1) // hop
        mask = torch.arange(states.shape[1], device=states.device) < frames[:, None]
        longest = int(frames.max()) if len(frames) else 0
        return gather(states[:, :longest], mask[:, :longest], real)

    def blocks(self) -> Sequence[nn.Module]:
        """The encoder's layers, input side first."""
        return list(self.model.layers)

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers of width 32 on clips of one second."""
        from coembed_audio.tiny import from_tiny, whisper

        return from_tiny(cls, spec, whisper)
