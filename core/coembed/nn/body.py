"""An encoder around the one transformer, whatever its tokens are: early exits, hidden states and blocks, done once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed.nn.pooling import POOLINGS
from coembed.nn.transformer import Transformer, TransformerConfig
from coembed.spec import EncoderSpec

__all__ = ["BodyEncoder"]


class BodyEncoder(Encoder):
    """Base of from-scratch encoders: an author adds `collate` and `embed`, the batch as vectors [B, T, D].

    `collate` gives a dict that holds `mask` [B, T] bool, or no mask when every token is real; and `pooled` [B, T] bool
    where some of the real tokens are read, but not given out. `pooling` is a name in `POOLINGS`. ValueError for another
    name.

    >>> class Rows(BodyEncoder):
    ...     def collate(self, items, prompt=""):
    ...         return {"values": torch.tensor(items)}  # [B, T, 8]
    ...     def embed(self, batch):
    ...         return batch["values"]
    ...     @classmethod
    ...     def samples(cls):
    ...         return [[[0.0] * 8] * 3]
    >>> spec = EncoderSpec(name="demo/rows", modality="rows", dim=8, target="demo:Rows")
    >>> Rows(spec, TransformerConfig(dim=8, heads=2)).encode(Rows.samples()).values.shape
    torch.Size([1, 1, 8])
    """

    def __init__(self, spec: EncoderSpec, config: TransformerConfig, *, pooling: str = "mean") -> None:
        super().__init__(spec)
        if pooling not in POOLINGS:
            raise ValueError(f"{spec.name}: pooling={pooling!r} is unknown: choose from {', '.join(POOLINGS)}")
        self.dim = config.dim
        self.layers = config.layers
        self.body = Transformer(config)
        self.pooling = POOLINGS[pooling](config.dim)

    @abstractmethod
    def embed(self, batch: Batch) -> Tensor:
        """A batch as vectors [B, T, D], before positions."""

    def _mask(self, batch: Batch, x: Tensor) -> Tensor:
        if "pooled" in batch:
            return batch["pooled"]
        return batch["mask"] if "mask" in batch else torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)

    def forward(self, batch: Batch, layer: int | None = None) -> Embedding:
        """A batch to token features [B, T, D]; `layer=k` runs blocks 1..k only."""
        x = self.embed(batch)
        return Embedding(self.body(x, batch.get("mask"), layer=layer), self._mask(batch, x), self.sizes)

    def hidden_states(self, batch: Batch, layer: int | None = None) -> list[Embedding]:
        """Token features after the embedding (first) and after each block: entry k equals `forward(batch, layer=k)`."""
        x = self.embed(batch)
        states = self.body(x, batch.get("mask"), layer=layer, hidden_states=True)
        mask = self._mask(batch, x)
        return [Embedding(self.body.finish(state, mask), mask, self.sizes) for state in states]

    def hidden(self, batch: Batch, layers: Sequence[int]) -> list[Embedding]:
        """Token features after each of the blocks named, in one pass."""
        newest = next(vars(kind) for kind in type(self).__mro__ if {"forward", "hidden_states"} & vars(kind).keys())
        if "hidden_states" not in newest or not layers:  # a subclass computes in a way of its own
            return super().hidden(batch, layers)
        self.check_layer(min(layers))
        states = self.hidden_states(batch, max(layers))
        return [states[layer] for layer in layers]

    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks, input side first."""
        return list(self.body.blocks)
