"""`audio/clap`: the sound half of any CLAP checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch
from coembed.spec import EncoderSpec
from coembed_audio.base import CheckpointAudio
from coembed_audio.windows import gather


class Projected(nn.Module):
    """Take the mean of the tokens through CLAP's projection: what it calls audio embeddings.

    >>> Projected(nn.Linear(2, 3))(Embedding(torch.ones(1, 4, 2), torch.ones(1, 4, dtype=torch.bool))).dim
    3
    """

    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, hidden] to [B, 1, dim]."""
        return replace(x, values=self.projection(x.pool("mean").values), mask=x.present[:, None])


class ClapAudio(CheckpointAudio):
    """Encode sound with a CLAP checkpoint (Wu et al. 2023), into the space of its text half, `audio/clap-text`.

    `model` is a folder, or `org/repo` with `revision` (or `org/repo@revision`); None takes the weights that the spec
    pins. Clips up to the extractor's length (10 s) go through as upstream prepares them; longer ones are windowed
    rather than cropped at random or fused, and the tokens of all windows averaged before the projection. A token is a
    place of the last feature map. It has no early exits, since its layers change width. Vectors are not normalised, as
    in `ClapAudioModelWithProjection`. Raises CheckpointError for a checkpoint that can't be used.

    >>> encoder = ClapAudio.tiny(EncoderSpec(name="audio/clap", modality="audio", dim=None, target="a:B"))
    >>> encoder.encode(encoder.samples()).values.shape
    torch.Size([5, 1, 24])
    """

    model: Any

    def __init__(self, spec: EncoderSpec, *, model: str | None = None, revision: str | None = None) -> None:
        super().__init__(spec)
        self.from_checkpoint(model, revision)

    @classmethod
    def kinds(cls) -> tuple[Any, Any, Any]:
        """CLAP's classes."""
        from transformers import ClapAudioModelWithProjection, ClapConfig, ClapFeatureExtractor

        return ClapConfig, ClapAudioModelWithProjection, ClapFeatureExtractor

    def model_config(self, config: Any) -> Any:
        """The sound half of the configuration, with the width that both halves project to."""
        self._whole = config
        return config.audio_config

    def settle(self, model: Any, extractor: Any) -> None:
        """Take over the body; its projection becomes the pooling."""
        self.model, self.extractor = model.audio_model, extractor
        self.pooling = Projected(model.audio_projection)
        self.span = int(extractor.nb_max_samples)
        self.token_dim = int(self.model.config.hidden_size)
        self.dim = int(self.model.config.projection_dim)

    def config(self) -> Any:
        """The checkpoint's configuration, both halves."""
        return self._whole

    def prepare(self, window: np.ndarray) -> Tensor:
        """A window as log-mel features [channels, frames, mels], filled up to the extractor's length."""
        state = np.random.get_state()  # of a fused model's clip without fusion, upstream draws one to call long
        found = self.extractor(window, sampling_rate=self.rate, return_tensors="np")["input_features"][0]
        np.random.set_state(state)
        return torch.from_numpy(np.asarray(found, dtype=np.float32))  # [channels, frames, mels]

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """Windows to the places of the last feature map [B, T, hidden]."""
        self.check_layer(layer)
        real = batch["lengths"] > 0
        features = batch["features"][real].to(next(self.model.parameters()).dtype)  # [N, channels, frames, mels]
        longer = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
        grid = self.model(input_features=features, is_longer=longer).last_hidden_state  # [N, hidden, rows, columns]
        tokens = grid.flatten(2).transpose(1, 2)
        return gather(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), real)

    def blocks(self) -> Sequence[nn.Module]:
        """The layers of all stages, input side first."""
        return [block for stage in self.model.audio_encoder.layers for block in stage.blocks]

    def train(self, mode: bool = True) -> Self:
        """As in torch, but a frozen batch norm stays in evaluation mode: `last:k` must not move its statistics."""
        super().train(mode)
        norm = getattr(getattr(self, "model", None), "audio_encoder", None)
        if norm is not None:
            norm.batch_norm.train(mode and norm.batch_norm.weight.requires_grad)
        return self

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two stages of two layers on clips of one second."""
        from coembed_audio.tiny import clap, from_tiny

        return from_tiny(cls, spec, clap)
