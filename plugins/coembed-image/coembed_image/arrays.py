"""Arrays and tensors to PIL images: shapes and types checked by name, no guess about which axis holds the channels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from coembed_image.modes import scaled, unit

_LAST = "[H, W], [H, W, 1], [H, W, 3] or [H, W, 4]"
_FIRST = "[H, W], [1, H, W], [3, H, W] or [4, H, W]"


def from_array(values: np.ndarray, *, channels_first: bool = False) -> Image.Image:
    """An array `[H, W]` or `[H, W, 1 | 3 | 4]` as a PIL image; with `channels_first`, `[1 | 3 | 4, H, W]`.

    bool, uint8, uint16, or floating point from 0 to 1. Raises ValueError naming the shape or the type.

    >>> from_array(np.ones((2, 3, 4))).mode
    'RGBA'
    """
    if channels_first and values.ndim == 3:
        if values.shape[0] not in (1, 3, 4):
            raise ValueError(f"shape {list(values.shape)} is not {_FIRST}; tensors have channels first")
        values = values.transpose(1, 2, 0)
    elif values.ndim != 2 and (values.ndim != 3 or values.shape[2] not in (1, 3, 4)):
        turn = "; put channels last" if values.ndim == 3 and values.shape[0] in (1, 3, 4) else ""
        raise ValueError(f"shape {list(values.shape)} is not {_FIRST if channels_first else _LAST}{turn}")
    if not values.size:
        raise ValueError(f"shape {list(values.shape)} holds no pixel")
    values = _bytes(values)
    return Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2:] == (1,) else values))


def _bytes(values: np.ndarray) -> np.ndarray:
    kind = values.dtype
    if kind == np.uint8:
        return values
    if kind == np.uint16:
        return scaled(values)
    if kind == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(kind, np.floating):
        return unit(values)
    raise ValueError(f"dtype {kind} has no known scale; pass uint8, uint16, bool, or floating point from 0 to 1")
