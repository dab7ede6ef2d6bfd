"""ImageEncoder: the base of encoders that wrap a published model with its own preprocessing."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch
from coembed_image.pictures import PictureEncoder


class Body(Protocol):
    """What a wrapped network says of itself: early exits (None: none), token width, tokens a picture."""

    layers: int | None
    width: int
    count: int


class ImageEncoder(PictureEncoder):
    """Pictures through a model's own preprocessing, `transform`; a subclass adds `forward` and `blocks`."""

    body: nn.Module

    def settle(self, body: Body, finish: nn.Module | None = None) -> None:
        """Learn widths and early exits from a body and `pooling`, once both are there; evaluation mode after it.

        `finish` is what the body's tokens go through before they are given out.
        """
        self.eval()
        self.layers = body.layers
        tokens = torch.zeros(1, body.count, body.width)
        with torch.no_grad():
            tokens = tokens if finish is None else finish(tokens)
            self.token_dim = tokens.shape[-1]
            self.dim = self.pooling(Embedding(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))).dim

    def pixels(self, batch: Batch) -> Tensor:
        """The batch's pixels in the type of the weights."""
        return batch["pixels"].to(next(self.body.parameters()).dtype)


class FrozenNorms(nn.Module):
    """Base of bodies with batch norms: a norm whose weights are frozen keeps its statistics too.

    Otherwise a few steps of `last:k` would move the running means of every frozen block below.
    """

    def train(self, mode: bool = True) -> FrozenNorms:
        """As in torch, but frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and module.affine:
                module.train(mode and module.weight.requires_grad)
        return self
