"""Items to mono samples at the rate that a model wants: files, pairs, mappings and arrays."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torchaudio.functional import resample

from coembed.items import BadItem, content_key, describe
from coembed_audio.arrays import mono

EXPECTED = (
    "a path or the bytes of a WAV, FLAC, OGG or MP3 file, (samples, rate), {'array': samples, 'sampling_rate': rate}, "
    "or samples [n] or [channels, n] at the model's own rate"
)
# The filter of a resampler has one row for each step of the reduced ratio: a ratio of large primes would fill memory.
WORST_RATIO = 20_000_000


def read_wave(item: Any, rate: int, position: int = 0) -> np.ndarray:
    """An item as mono float32 samples `[n]` at `rate` Hz, full scale at 1.

    Takes what `EXPECTED` names; a `str` is a path, an array without a rate is taken to be at `rate`. Channels are
    averaged, other rates resampled (windowed sinc, `torchaudio.functional.resample`). Raises BadItem for anything
    else, and for files or arrays that are missing, broken, cut off, empty, or hold NaN.

    >>> read_wave((np.zeros((2, 800), dtype=np.float32), 8000), 16000).shape
    (1600,)
    """
    try:
        samples, found = _parts(item, rate)
        wave = mono(samples)
        return wave if found == rate else _resampled(wave, found, rate)
    except _Unknown:
        raise BadItem(position, describe(item), EXPECTED) from None
    except ValueError as error:
        raise BadItem(position, f"{_short(item)}: {error}", EXPECTED) from error


def duration(item: Any, rate: int) -> int:
    """About how many samples at `rate` an item has, without decoding a file; raises ValueError for a bad one."""
    if isinstance(item, (str, Path, bytes, bytearray)):
        with _opened(item) as file:
            return int(file.frames * rate / file.samplerate)
    samples, found = _parts(item, rate)
    return int(np.shape(samples)[-1] * rate / found)


def wave_key(item: Any) -> bytes:
    """A digest of an item's content: of a file, its bytes; a path that can't be read gets a key of its own."""
    if isinstance(item, (str, Path)):
        try:
            return content_key(Path(item).read_bytes())
        except (OSError, ValueError):
            return content_key({"no file": str(item)})
    return content_key(item)


def wave_file(path: Path) -> list[Path]:
    """The one item in a sound file: its path, after a look that it can be read; raises BadItem."""
    path = Path(path)
    try:
        with _opened(path):
            return [path]
    except ValueError as error:
        raise BadItem(0, f"{_short(path)}: {error}", EXPECTED) from error


class _Unknown(Exception):
    """An item of a kind that is not read at all."""


def _parts(item: Any, rate: int) -> tuple[Any, int]:
    """Samples and their rate."""
    if isinstance(item, (str, Path, bytes, bytearray)):
        return _decoded(item)
    if isinstance(item, Mapping):
        if not {"array", "sampling_rate"} <= item.keys():
            raise ValueError(f"keys {', '.join(map(repr, item)) or 'none'} instead of 'array' and 'sampling_rate'")
        return _samples(item["array"]), _rate(item["sampling_rate"])
    if isinstance(item, (tuple, list)) and len(item) == 2 and _is_array(item[0]):
        return item[0], _rate(item[1])
    if isinstance(item, (tuple, list)) and len(item) == 2 and _is_array(item[1]):
        raise ValueError("the rate before the samples; turn them round")
    if _is_array(item):
        return item, rate
    raise _Unknown


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim > 0


def _samples(value: Any) -> Any:
    if isinstance(value, list):
        return np.asarray(value, dtype=np.float64)  # as a data set read from JSON or Arrow gives them
    if not _is_array(value):
        raise ValueError(f"{describe(value)} where samples should be")
    return value


def _rate(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{describe(value)} where the sampling rate should be")
    if not math.isfinite(value) or value != int(value) or value < 1:
        raise ValueError(f"a sampling rate of {value} Hz; a positive whole number is expected")
    return int(value)


def _opened(item: str | Path | bytes | bytearray) -> soundfile.SoundFile:
    if isinstance(item, (bytes, bytearray)):
        source: Any = io.BytesIO(item)
    else:
        if str(item).startswith(("http://", "https://")):
            raise ValueError("a URL; nothing is fetched, so pass the file")
        if not Path(item).is_file():
            raise ValueError("a folder" if Path(item).is_dir() else "no such file")
        source = str(item)
    try:
        return soundfile.SoundFile(source)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"not a sound file that can be read ({error.error_string.strip()})") from error
    except TypeError as error:  # of a name that ends in .raw, which would need a rate and a type
        raise ValueError("a raw file, which says neither its rate nor its type") from error


def _decoded(item: str | Path | bytes | bytearray) -> tuple[np.ndarray, int]:
    with _opened(item) as file:
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"broken or cut off ({error.error_string.strip()})") from error
        if len(samples) < file.frames and file.format != "MP3":  # whose header may only estimate the length
            raise ValueError(f"cut off after {len(samples)} of {file.frames} samples")
        return samples.T, int(file.samplerate)


def _resampled(wave: np.ndarray, found: int, rate: int) -> np.ndarray:
    common = math.gcd(found, rate)
    if (found // common) * (rate // common) > WORST_RATIO:
        raise ValueError(f"a sampling rate of {found} Hz, which has no simple ratio to {rate} Hz; resample it first")
    return np.asarray(resample(torch.from_numpy(wave), found, rate).numpy())


def _short(item: Any) -> str:
    if isinstance(item, (str, Path)):
        return repr(str(item))  # in full: the end of a path says most
    return f"{len(item)} bytes" if isinstance(item, (bytes, bytearray)) else type(item).__name__
