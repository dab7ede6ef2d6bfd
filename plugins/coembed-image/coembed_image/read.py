"""Pictures of any kind to RGB: files, bytes, PIL images, arrays and tensors, or a refusal that says what was wrong."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from coembed.items import BadItem, describe
from coembed_image.arrays import from_array
from coembed_image.modes import to_rgb

#: What files may hold. Pillow opens more, but some formats run other programs (EPS starts Ghostscript).
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP")
#: A picture is resized by its shorter side: 1 x 100,000 pixels would become 224 x 22,400,000.
MAX_ASPECT = 200

_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+://|data:)")
_WANTED = "a file path, the bytes of an image file, a PIL image, an array [H, W(, 1, 3 or 4)] or a tensor [C, H, W]"
_BOMB = (Image.DecompressionBombWarning, Image.DecompressionBombError)


class Unreadable(Exception):
    """What is wrong with one picture: what came and what was wanted; `read_image` adds the position."""


def read_image(item: Any, position: int = 0) -> Image.Image:
    """One picture as a new 8-bit RGB image, upright, without transparency; the item itself is left as it was.

    A `str` is a file path. Animated and multi-page files give their first frame; EXIF rotation is applied; transparent
    pixels lie on white; 16 bits are scaled to 8; arrays are `[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]`, tensors
    have channels first (`[C, H, W]` or `[H, W]`); both are uint8, uint16, bool, or floating point from 0 to 1.
    Raises BadItem naming the position for what is none of these: URLs (nothing is fetched), folders, missing, empty,
    truncated or unknown files, decompression bombs (Pillow's own limit), empty arrays, NaN, and pictures more than 200
    times as long as wide.

    >>> read_image(np.zeros((4, 6), np.uint8)).size
    (6, 4)
    """
    try:
        picture = _decode(item)
        width, height = picture.size
        if min(width, height) < 1:
            raise Unreadable(f"a picture of {width} x {height} pixels", "at least one pixel each way")
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise Unreadable(f"a picture of {width} x {height} pixels", f"sides that differ at most {MAX_ASPECT} times")
        return to_rgb(picture)
    except Unreadable as error:
        got, expected = error.args
        raise BadItem(position, got, expected) from error
    except _BOMB as error:
        got = f"{_name(item)}, a decompression bomb ({error})"
        raise BadItem(position, got, f"at most {Image.MAX_IMAGE_PIXELS} pixels") from error
    except ValueError as error:
        raise BadItem(position, f"{_name(item)}: {error}", _WANTED) from error


def _name(item: Any) -> str:
    if isinstance(item, (str, Path)):
        return f"the file {str(item)[:200]!r}"
    if isinstance(item, Image.Image):
        return f"a PIL image of mode {item.mode}"
    if isinstance(item, (bytes, bytearray, memoryview)):
        return f"{len(item)} bytes"
    return f"{type(item).__name__} of {getattr(item, 'dtype', 'unknown type')}"


def _decode(item: Any) -> Image.Image:
    """The item as a loaded, upright PIL image of any mode."""
    if isinstance(item, Image.Image):
        return _loaded(item, _name(item))
    if isinstance(item, (bytes, bytearray, memoryview)):
        return _opened(io.BytesIO(bytes(item)), _name(item))
    if isinstance(item, (str, Path)):
        return _file(item)
    if isinstance(item, torch.Tensor):
        tensor = item.detach().cpu()
        return from_array((tensor.float() if tensor.is_floating_point() else tensor).numpy(), channels_first=True)
    if isinstance(item, np.ndarray):
        return from_array(item)
    raise Unreadable(describe(item), _WANTED)


def _file(item: str | Path) -> Image.Image:
    if isinstance(item, str) and _URL.match(item):
        raise Unreadable(f"the URL {item[:80]!r}", "a file path: nothing is fetched here, download it first")
    try:
        if Path(item).is_dir():
            raise Unreadable(f"the folder {str(item)!r}", "an image file")
        with Path(item).open("rb") as stream:
            return _opened(stream, _name(item))
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise Unreadable(f"{_name(item)} ({error})"[:400], "an image file that can be read") from error


def _opened(stream: io.BufferedReader | io.BytesIO, name: str) -> Image.Image:
    if not stream.read(1):
        raise Unreadable(f"{name}, which is empty" if "bytes" not in name else name, "an image file")
    stream.seek(0)
    Image.init()
    known = [kind for kind in FORMATS if kind in Image.OPEN]  # a build of Pillow may lack some
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream, formats=known) as picture:
                return _loaded(picture, name)
    except (*_BOMB, Unreadable):
        raise
    except Image.UnidentifiedImageError as error:
        raise Unreadable(f"{name}, which holds no picture", f"one of {', '.join(known)}") from error
    except Exception as error:  # WebP's decoder, for one, raises a plain OSError here
        raise _damaged(name, error) from error


def _loaded(picture: Image.Image, name: str) -> Image.Image:
    """Decode now: a truncated file shows itself only here."""
    frame = picture.tell()
    try:
        if frame:
            picture.seek(0)
        picture.load()
        return _upright(picture)
    except _BOMB:
        raise
    except Exception as error:  # decoders of damaged files raise almost anything
        raise _damaged(name, error) from error
    finally:
        if frame:
            picture.seek(frame)  # an open picture is its owner's


def _damaged(name: str, error: Exception) -> Unreadable:
    return Unreadable(f"{name}, damaged or cut off ({error})", "a whole image file")


def _upright(picture: Image.Image) -> Image.Image:
    try:
        upright = ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF says nothing of rotation; the picture itself is whole
        upright = picture.copy()
    upright.format = picture.format  # a copy forgets it, and 16-bit samples are known by it
    return upright
