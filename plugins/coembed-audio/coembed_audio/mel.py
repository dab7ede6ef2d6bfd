"""`audio/mel`: a small transformer over log-mel patches, trained from scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from coembed.embedding import Embedding
from coembed.encoder import Batch
from coembed.nn import BodyEncoder, TransformerConfig, init_weights, seeded
from coembed.spec import EncoderSpec
from coembed_audio.logmel import LogMel
from coembed_audio.read import duration, read_wave
from coembed_audio.samples import check_prompt
from coembed_audio.sounds import SoundEncoder


class MelAudio(SoundEncoder, BodyEncoder):
    """Sound as log-mel patches (`patch` frames of `hop` samples, `bins` values a frame) through a small transformer.

    Items are what `coembed_audio.read.EXPECTED` names, resampled to `rate` Hz. A transformer run sees `window` seconds;
    longer recordings are cut into consecutive windows, and pooling takes the tokens of all together. `dim` and `layers`
    default to the spec's; every layer is an early exit; `pooling` is a name in `coembed.nn.POOLINGS`. Weights come
    from `seed`. Raises ValueError naming an argument that can't be.

    >>> encoder = MelAudio.tiny(EncoderSpec(name="demo/mel", modality="audio", dim=None, target="demo:Mel"))
    >>> encoder.encode(encoder.samples()).values.shape, encoder.layers
    (torch.Size([5, 1, 16]), 2)
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        rate: int = 16_000,
        bins: int = 64,
        fft: int = 512,
        hop: int = 160,
        patch: int = 4,
        window: float = 10.0,
        dim: int | None = None,
        layers: int | None = None,
        heads: int = 4,
        ff: int | None = None,
        dropout: float = 0.1,
        pooling: str = "mean",
        seed: int | None = 0,
    ) -> None:
        for name, value in {"rate": rate, "bins": bins, "fft": fft, "hop": hop, "patch": patch}.items():
            if value < 1:
                raise ValueError(f"{spec.name}: {name}={value} must be at least 1")
        if bins > fft // 4:
            raise ValueError(
                f"{spec.name}: bins={bins} of fft={fft} would leave mel bands empty; use {fft // 4} or fewer"
            )
        span = round(window * rate / (hop * patch))
        if span < 1:
            raise ValueError(f"{spec.name}: window={window} seconds hold no patch of {patch} frames")
        config = TransformerConfig(
            dim=dim or spec.dim or 192,
            layers=layers or spec.layers or 6,
            heads=heads,
            ff=ff,
            dropout=dropout,
            max_length=span,
        )
        with seeded(seed):
            super().__init__(spec, config, pooling=pooling)
            self.embed_tokens = nn.Linear(patch * bins, self.dim)
            init_weights(self.embed_tokens)
        self.rate, self.span = rate, span
        self.frames = LogMel(rate, bins=bins, window=fft, hop=hop, patch=patch)

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Sounds to `patches` [B, T, F] and `mask` [B, T] bool; raises BadItem naming the position."""
        check_prompt(self.spec.name, prompt)
        rows = [self.frames(read_wave(item, self.rate, position)) for position, item in enumerate(items)]
        lengths = torch.tensor([len(row) for row in rows])
        patches = pad_sequence(rows, batch_first=True)
        return {"patches": patches, "mask": torch.arange(patches.shape[1]) < lengths[:, None]}

    def embed(self, batch: Batch) -> Tensor:
        """The patches as vectors [B, T, D]; where the batch has `masked` [B, T] bool, a patch of mid values' vector."""
        patches = batch["patches"].to(self.embed_tokens.weight.dtype)
        if "masked" in batch:
            patches = patches.masked_fill(batch["masked"][..., None], 0.0)
        x: Tensor = self.embed_tokens(patches)
        return x

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """A batch to token features [B, T, D]; `layer=k` runs blocks 1..k only."""
        x, mask = self.embed(batch), batch["mask"]
        rows, real = _windows(x, mask, self.span)
        values = self.body(rows[0], rows[1], layer=layer)
        return Embedding(_joined(values, real, x), mask, self.sizes)

    def hidden_states(self, batch: Batch, layer: int | None = None) -> list[Embedding]:
        """Token features after the embedding (first) and after each block: entry k equals `forward(batch, layer=k)`."""
        x, mask = self.embed(batch), batch["mask"]
        rows, real = _windows(x, mask, self.span)
        states = self.body(rows[0], rows[1], layer=layer, hidden_states=True)
        found = [_joined(self.body.finish(state, rows[1]), real, x) for state in states]
        return [Embedding(values, mask, self.sizes) for values in found]

    def size(self, item: Any) -> int:
        """The number of patches."""
        return self.frames.count(duration(item, self.rate))

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers of width 16 over 16 bands, with windows of half a second."""
        kwargs: dict[str, Any] = {"bins": 16, "window": 0.5, "dim": 16, "layers": 2, "heads": 2}
        return cls(dataclasses.replace(spec, dim=None, layers=None, kwargs=kwargs), **kwargs)


def _windows(x: Tensor, mask: Tensor, span: int) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
    """Tokens `[B, T, D]` in runs of at most `span`: ([N, span, D], [N, span]), and which windows `[B, W]` they are."""
    length = x.shape[1]
    if length <= span:
        return (x, mask), None
    short = -length % span
    x = nn.functional.pad(x, (0, 0, 0, short)).unflatten(1, (-1, span))  # [B, W, span, D]
    mask = nn.functional.pad(mask, (0, short)).unflatten(1, (-1, span))
    real = mask.any(-1)  # a window of padding alone would be work for nothing
    return (x[real], mask[real]), real


def _joined(values: Tensor, real: Tensor | None, x: Tensor) -> Tensor:
    """The inverse of `_windows`, as long as `x`."""
    if real is None:
        return values
    whole = values.new_zeros(*real.shape, *values.shape[1:])
    whole[real] = values
    return whole.flatten(1, 2)[:, : x.shape[1]]
