"""A few sounds made on the spot, and the prompt that sounds don't take."""

from __future__ import annotations

import numpy as np

Sound = tuple[np.ndarray, int]


def samples() -> list[Sound]:
    """Five sounds of unlike lengths, rates and channels: tone, chord in stereo, sweep, noise, clicks.

    >>> [(sound.shape, rate) for sound, rate in samples()][:2]
    [((6400,), 16000), ((2, 17640), 44100)]
    """
    tone = np.sin(2 * np.pi * 440 * _time(0.4, 16_000))
    chord = np.stack([np.sin(2 * np.pi * pitch * _time(0.4, 44_100)) for pitch in (330.0, 660.0)])
    time = _time(0.9, 22_050)
    sweep = np.sin(2 * np.pi * (200 + 1500 * time) * time)
    noise = np.random.default_rng(0).standard_normal(8_000) * 0.2
    clicks = (np.arange(4_000) % 500 < 8).astype(np.float64)
    sounds = [(0.5 * tone, 16_000), (0.4 * chord, 44_100), (0.6 * sweep, 22_050), (noise, 16_000), (clicks, 8_000)]
    return [(wave.astype(np.float32), rate) for wave, rate in sounds]


def check_prompt(name: str, prompt: str | None) -> None:
    """Raise ValueError for a prompt: sounds have no text to put it before."""
    if prompt:
        raise ValueError(f"{name}: sounds take no prompt, got {prompt!r}")


def _time(seconds: float, rate: int) -> np.ndarray:
    return np.arange(round(seconds * rate)) / rate
