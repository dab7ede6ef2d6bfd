"""What encoders of pictures share: items to a batch of pixels, their digests, files, and a few samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from coembed.encoder import Encoder
from coembed.items import BadItem, content_key
from coembed_image.read import read_image

Transform = Callable[[Image.Image], Tensor]


class PictureEncoder(Encoder):
    """What encoders do with pictures, whatever reads the pixels; a subclass gives `transform` and `forward`.

    Items are what `coembed_image.read.read_image` takes: paths (a `str` is a path), bytes of an image file, PIL
    images, arrays and tensors. `transform` is the preprocessing, from an RGB image to `[3, H, W]`.
    """

    transform: Transform

    def collate(self, items: Sequence[Any], prompt: str = "") -> dict[str, Tensor]:
        """Pictures to `pixels` [B, 3, H, W]; raises BadItem naming the position."""
        check_prompt(self.spec.name, prompt)
        return to_pixels(items, self.transform)

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


def to_pixels(items: Sequence[Any], transform: Transform) -> dict[str, Tensor]:
    """Pictures as `{"pixels": [B, 3, H, W]}`; raises BadItem naming the position.

    >>> to_pixels(samples(), lambda picture: torch.zeros(3, *picture.size))["pixels"].shape
    torch.Size([4, 3, 48, 48])
    """
    return {"pixels": torch.stack([transform(read_image(item, i)) for i, item in enumerate(items)])}


def picture_key(item: Any) -> bytes:
    """A digest of what a picture shows: a file's bytes, or the RGB pixels of anything else.

    A path that can't be read gets a key of its own: reading it is what says why, and at which position.
    """
    if isinstance(item, (str, Path)):
        try:
            return content_key(Path(item).read_bytes())
        except (OSError, ValueError):
            return content_key({"no file": str(item)})
    if isinstance(item, (bytes, bytearray)):
        return content_key(item)
    try:
        picture = read_image(item)  # a palette or an alpha channel is not in the plain bytes
    except BadItem as error:
        return content_key({"no picture": error.got})
    return hashlib.blake2b(repr(picture.size).encode() + picture.tobytes(), digest_size=16).digest()


def picture_file(path: Path) -> list[Path]:
    """The one item in an image file: its path, after a look that it can be read; raises BadItem."""
    read_image(Path(path))
    return [Path(path)]


def check_prompt(name: str, prompt: str | None) -> None:
    """Raise ValueError for a prompt: pictures have no text to put it before."""
    if prompt:
        raise ValueError(f"{name}: pictures take no prompt, got {prompt!r}")


def samples() -> list[Image.Image]:
    """Four drawn pictures of 48 x 48 pixels, in different modes."""
    disc, bars, ramp = (Image.new("RGB", (48, 48), colour) for colour in ("white", "navy", "black"))
    ImageDraw.Draw(disc).ellipse((8, 8, 40, 40), fill="red")
    for x in range(0, 48, 12):
        ImageDraw.Draw(bars).rectangle((x, 0, x + 5, 47), fill="gold")
    for y in range(48):
        ImageDraw.Draw(ramp).line((0, y, 47, y), fill=(5 * y, 255 - 5 * y, 96))
    corner = Image.new("RGBA", (48, 48), (0, 0, 0, 0))
    ImageDraw.Draw(corner).polygon([(0, 0), (47, 0), (0, 47)], fill=(0, 128, 0, 255))
    return [disc, bars, ramp.convert("CMYK"), corner]
