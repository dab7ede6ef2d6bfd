"""ImageEncoder: the base of encoders that wrap a published model with its own preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Batch, Encoder
from coembed_image.pictures import Transform, check_prompt, picture_file, picture_key, samples, to_pixels


class Body(Protocol):
    """What a wrapped network says of itself: early exits (None: none), token width, tokens a picture."""

    layers: int | None
    width: int
    count: int


class ImageEncoder(Encoder):
    """Pictures through a model's own preprocessing; a subclass adds `forward` and `blocks`.

    Items are what `coembed_image.read.read_image` takes: paths (a `str` is a path), bytes of an image file, PIL
    images, arrays and tensors. `transform` is the preprocessing, from an RGB image to `[3, H, W]`.
    """

    transform: Transform
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

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Pictures to `pixels` [B, 3, H, W]; raises BadItem naming the position."""
        check_prompt(self.spec.name, prompt)
        return to_pixels(items, self.transform)

    def pixels(self, batch: Batch) -> Tensor:
        """The batch's pixels in the type of the weights."""
        return batch["pixels"].to(next(self.body.parameters()).dtype)

    def prompt_for(self, role: str | None = None, prompt: str | None = None) -> str:
        """As for any encoder, but a prompt is refused before anything runs."""
        check_prompt(self.spec.name, prompt)
        return super().prompt_for(role, prompt)

    def size(self, item: Any) -> int:
        """One for every picture: all have the same number of tokens."""
        return 1

    def key(self, item: Any) -> bytes:
        """A digest of the picture, not of the path that leads to it."""
        return picture_key(item)

    def read(self, path: Path) -> list[Any]:
        """The picture in an image file; raises BadItem for a file that holds none."""
        return list(picture_file(path))

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """Four drawn pictures."""
        return samples()


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
