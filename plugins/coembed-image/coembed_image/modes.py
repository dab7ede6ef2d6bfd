"""Every mode that Pillow knows to 8-bit RGB: scaled rather than clipped, and transparency laid on white."""

from __future__ import annotations

import numpy as np
from PIL import Image

#: File formats whose 32-bit integer mode holds 16-bit samples.
_SIXTEEN = ("PNG", "PPM", "TIFF")


def to_rgb(picture: Image.Image) -> Image.Image:
    """A PIL image of any mode as RGB.

    Grey becomes three equal channels, CMYK is converted without a colour profile, transparent pixels are laid on
    white, 16-bit samples are divided by 257, floating point is taken from 0 to 1. Raises ValueError for values without
    a known scale and for modes that can't be converted.

    >>> to_rgb(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    mode = picture.mode
    if mode.startswith("I;16") or mode == "I":
        return _grey(_sixteen(picture))
    if mode == "F":
        return _grey(unit(np.asarray(picture)))
    if "A" in mode or "a" in mode or "transparency" in picture.info:
        if mode in ("La", "RGBa"):  # premultiplied alpha converts only to its plain twin
            picture = picture.convert({"La": "LA", "RGBa": "RGBA"}[mode])
        if mode != "LAB":
            white = Image.new("RGBA", picture.size, "white")
            return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def unit(values: np.ndarray) -> np.ndarray:
    """Floating point from 0 to 1 as uint8; raises ValueError for NaN, infinity and other ranges."""
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinity; mend those pixels first")
    low, high = float(values.min()), float(values.max())
    if low < -1e-3 or high > 1 + 1e-3:  # resampling overshoots a little; 0..255 does not
        raise ValueError(f"floating point from {low:.4g} to {high:.4g}; scale it to 0..1, or pass uint8")
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def scaled(values: np.ndarray) -> np.ndarray:
    """Samples of 16 bits as uint8: 65535 becomes 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _sixteen(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture)
    if picture.mode == "I" and picture.format not in _SIXTEEN:
        raise ValueError("32-bit integers have no known scale; pass uint8, uint16 or floating point from 0 to 1")
    if values.min() < 0 or values.max() > 65535:
        low, high = int(values.min()), int(values.max())
        raise ValueError(f"32-bit integers from {low} to {high} have no known scale; save it with 8 or 16 bits")
    return scaled(values)


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values).convert("RGB")
