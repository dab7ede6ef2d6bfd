"""Arrays of samples to mono float32: shapes and types checked by name, no guess about which axis holds the channels."""

from __future__ import annotations

from typing import Any

import numpy as np

MOST_CHANNELS = 32
LOUDEST = 256.0  # floating point may pass full scale; integers that lost their type pass it by far more


def mono(values: Any) -> np.ndarray:
    """Samples `[n]` or `[channels, n]` as float32 `[n]`, channels averaged, full scale at 1.

    Takes NumPy arrays and torch tensors: floating point (full scale 1), int16, int32, or uint8 (silence at 128).
    Raises ValueError naming the shape, the type or the sample that can't be.

    >>> mono(np.array([[16384, 0], [0, 0]], dtype=np.int16)).tolist()
    [0.25, 0.0]
    """
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim not in (1, 2):
        raise ValueError(f"shape {list(array.shape)} is neither [n] nor [channels, n]")
    if not array.size:
        raise ValueError(f"shape {list(array.shape)} holds no sample")
    if array.ndim == 2 and array.shape[0] > MOST_CHANNELS:
        raise ValueError(f"shape {list(array.shape)} has {array.shape[0]} channels; channels come first: transpose it")
    scaled = _scaled(array)
    wave = scaled if scaled.ndim == 1 else scaled.mean(0, dtype=np.float32)
    if not np.isfinite(wave).all():
        raise ValueError("NaN or infinite samples")
    if (peak := float(np.abs(wave).max())) > LOUDEST:
        raise ValueError(
            f"floating-point samples up to {peak:.0f}; divide by the integer range, so that 1 is full scale"
        )
    return np.ascontiguousarray(wave, dtype=np.float32)


def _scaled(array: np.ndarray) -> np.ndarray:
    kind = array.dtype
    if np.issubdtype(kind, np.floating):
        with np.errstate(over="ignore"):  # beyond float32 it becomes infinite, which is refused
            return array.astype(np.float32)
    if kind == np.int16:
        return array.astype(np.float32) / np.float32(1 << 15)
    if kind == np.int32:
        return (array.astype(np.float64) / (1 << 31)).astype(np.float32)
    if kind == np.uint8:
        return (array.astype(np.float32) - 128) / np.float32(128)
    raise ValueError(f"dtype {kind} has no known scale; pass floating point, int16, int32 or uint8")
