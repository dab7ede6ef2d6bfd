"""A small vision transformer to train from scratch, on the transformer that every from-scratch encoder shares."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from coembed.encoder import Batch
from coembed.nn import BodyEncoder, TransformerConfig, init_weights, seeded
from coembed.spec import EncoderSpec
from coembed_image.pictures import PictureEncoder


class PatchEmbedding(nn.Module):
    """Pixels `[B, 3, H, W]` to one vector a patch `[B, T, dim]`, row by row, each with its place added.

    A place is the sum of a learned row and a learned column. Where `masked` `[B, T]` is True, the mask vector stands
    for the patch. Source: Dosovitskiy et al. 2021, equation 1, without class token and with places in two dimensions.

    >>> PatchEmbedding(16, size=32, patch=8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 16, 16])
    """

    def __init__(self, dim: int, *, size: int, patch: int) -> None:
        super().__init__()
        self.side = size // patch
        self.project = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)
        # rows, columns, and the mask vector: alone, that would be a parameter without gradient when nothing is masked
        self.table = nn.Embedding(2 * self.side + 1, dim)
        init_weights(self)

    def forward(self, pixels: Tensor, masked: Tensor | None = None) -> Tensor:
        """Return [B, T, dim]."""
        x = self.project(pixels.to(self.table.weight.dtype)).flatten(2).transpose(1, 2)  # [B, T, dim]
        if masked is not None:
            x = torch.where(masked.unsqueeze(-1), self.table.weight[-1], x)
        rows, columns, _ = self.table.weight.split([self.side, self.side, 1])
        places = rows.unsqueeze(1) + columns.unsqueeze(0)  # [rows, columns, dim]
        return x + places.flatten(0, 1)


def check_patches(name: str, size: int, patch: int) -> None:
    """Raise ValueError unless patches of `patch` x `patch` pixels fill a picture of `size` x `size`.

    >>> check_patches("demo/vit", 64, 24)
    Traceback (most recent call last):
    ValueError: demo/vit: patches of 24 pixels do not fill a side of 64; choose a divisor
    """
    if size < 1 or patch < 1 or size % patch:
        raise ValueError(f"{name}: patches of {patch} pixels do not fill a side of {size}; choose a divisor")


class Squash:
    """An RGB image to `[3, size, size]` around zero: the whole picture, its sides made equal.

    >>> Squash(8)(Image.new("RGB", (4, 16), "white")).unique()
    tensor([1.])
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, picture: Image.Image) -> Tensor:
        """Return [3, size, size], from -1 to 1."""
        if picture.size != (self.size, self.size):
            picture = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        values = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        return values.float() / 127.5 - 1


class VitImage(PictureEncoder, BodyEncoder):
    """Pictures of `size` x `size` pixels, cut into patches of `patch` x `patch`, through a small transformer.

    Items are what `coembed_image.read.read_image` takes. `dim` and `layers` default to the spec's; every layer is an
    early exit; `pooling` is a name in `coembed.nn.POOLINGS`. Weights come from `seed`.
    Raises ValueError if the patch does not divide the size, or for an argument that `TransformerConfig` refuses.

    >>> encoder = VitImage.tiny(EncoderSpec(name="demo/vit", modality="image", dim=16, target="demo:Vit"))
    >>> encoder.encode(encoder.samples()).values.shape, encoder.layers
    (torch.Size([4, 1, 16]), 2)
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        size: int = 64,
        patch: int = 8,
        dim: int | None = None,
        layers: int | None = None,
        heads: int = 4,
        ff: int | None = None,
        dropout: float = 0.1,
        pooling: str = "mean",
        seed: int | None = 0,
    ) -> None:
        check_patches(spec.name, size, patch)
        config = TransformerConfig(
            dim=dim or spec.dim or 192,
            layers=layers or spec.layers or 6,
            heads=heads,
            ff=ff,
            dropout=dropout,
            positions="none",  # a sequence has no rows and columns: places come with the patches
        )
        with seeded(seed):
            super().__init__(spec, config, pooling=pooling)
            self.embed_tokens = PatchEmbedding(self.dim, size=size, patch=patch)
        self.transform = Squash(size)

    def embed(self, batch: Batch) -> Tensor:
        """Patches with their places, [B, T, D]."""
        x: Tensor = self.embed_tokens(batch["pixels"], batch.get("masked"))
        return x

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers of width 16 on pictures of 32 x 32 pixels."""
        kwargs: dict[str, Any] = {"size": 32, "patch": 8, "dim": 16, "layers": 2, "heads": 2}
        return cls(dataclasses.replace(spec, dim=None, layers=None, kwargs=kwargs), **kwargs)
