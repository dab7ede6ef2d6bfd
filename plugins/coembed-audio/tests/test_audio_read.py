"""What counts as a sound, and what is refused by name."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from coembed import BadItem, EncoderSpec
from coembed_audio.arrays import mono
from coembed_audio.mel import MelAudio
from coembed_audio.read import duration, read_wave, wave_file, wave_key

RATE = 16_000


def spec(name: str, modality: str = "audio") -> EncoderSpec:
    return EncoderSpec(name=name, modality=modality, dim=None, target="coembed_audio:X")


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    wave = np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 0.2
    return wave.astype(np.float32)


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


FORMATS = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "mp3": ("MP3", None)}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("how", [str, Path, Path.read_bytes])
def test_every_format(tmp_path: Path, suffix: str, how: Any) -> None:
    kind, subtype = FORMATS[suffix]
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(1.0), RATE, format=kind, subtype=subtype)
    wave = read_wave(how(path), RATE)
    assert wave.dtype == np.float32 and wave.ndim == 1
    assert abs(len(wave) - RATE) < 2_500  # MP3 adds a frame or two
    spectrum = np.abs(np.fft.rfft(wave[4_000:12_000]))
    assert abs(int(spectrum.argmax()) * RATE / 8_000 - 440) < 3
    assert 0.45 < np.abs(wave[4_000:12_000]).max() < 0.55
    assert duration(how(path), RATE) == pytest.approx(len(wave), rel=0.05)


def test_float_and_24_bit_files(tmp_path: Path) -> None:
    for subtype in ("FLOAT", "PCM_24", "PCM_U8"):
        soundfile.write(tmp_path / "x.wav", tone(0.1), RATE, subtype=subtype)
        assert np.abs(read_wave(tmp_path / "x.wav", RATE) - tone(0.1)).max() < 0.01


def test_arrays_pairs_and_mappings_are_one_sound() -> None:
    wave = noise(0.2)
    for item in (
        wave,
        wave[None],
        np.stack([wave, wave]),
        torch.from_numpy(wave),
        wave.astype(np.float64),
        (wave, RATE),
        [wave, np.int64(RATE)],
        (torch.from_numpy(wave)[None], float(RATE)),
        {"array": wave, "sampling_rate": RATE, "path": None},
        {"array": wave.tolist(), "sampling_rate": RATE},
    ):
        assert np.abs(read_wave(item, RATE) - wave).max() < 1e-6
        assert duration(item, RATE) == len(wave)


def test_integers_are_scaled_and_channels_averaged() -> None:
    assert mono(np.array([-32768, 16384], dtype=np.int16)).tolist() == [-1.0, 0.5]
    assert mono(np.array([1 << 30], dtype=np.int32)).tolist() == [0.5]
    assert mono(np.array([0, 128, 192], dtype=np.uint8)).tolist() == [-1.0, 0.0, 0.5]
    assert mono(np.array([[1.0, 0.0], [0.0, -0.5]])).tolist() == [0.5, -0.25]


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampling_keeps_pitch_loudness_and_length(rate: int) -> None:
    wave = read_wave((tone(1.0, rate), rate), RATE)
    assert abs(len(wave) - RATE) <= 1
    assert np.abs(wave[1_000:15_000] - tone(1.0)[1_000:15_000]).max() < 0.02


def test_clipped_and_silent_sounds_are_sounds() -> None:
    clipped = np.clip(10 * tone(0.3), -1, 1)
    encoder = MelAudio.tiny(spec("audio/mel"))
    vectors = encoder.encode([clipped, np.zeros(4_000, dtype=np.float32), tone(0.3), 3 * tone(0.3)]).vectors
    assert vectors.isfinite().all()
    assert (vectors[0] - vectors[2]).abs().max() > 1e-4


BAD: list[tuple[Any, str]] = [
    (np.zeros(0, dtype=np.float32), "no sample"),
    ((np.zeros((2, 0)), RATE), "no sample"),
    (np.array([0.0, np.nan]), "NaN"),
    ((np.array([0.0, np.inf]), RATE), "infinite"),
    (np.array([1e300]), "infinite"),
    (np.zeros((2, 2, 2)), r"\[2, 2, 2\]"),
    (np.zeros((400, 2), dtype=np.float32), "transpose"),
    (np.array(["a"]), "dtype"),
    (np.zeros(9, dtype=np.int64), "int64"),
    (np.zeros(9, dtype=complex), "complex"),
    (np.array([0.0, 30_000.0]), "30000"),
    ((noise(0.1), 0), "0 Hz"),
    ((noise(0.1), -8_000), "-8000 Hz"),
    ((noise(0.1), 8_000.5), "8000.5 Hz"),
    ((noise(0.1), float("nan")), "nan Hz"),
    ((noise(0.1), True), "rate"),
    ((noise(0.1), "16000"), "rate"),
    ((noise(0.1), 44_101), "44101 Hz"),
    ((RATE, noise(0.1)), "turn them round"),
    ({"array": noise(0.1)}, "sampling_rate"),
    ({"array": None, "sampling_rate": RATE}, "samples"),
    ({}, "none"),
    ("no such file.wav", "no such file"),
    ("https://example.org/a.wav", "URL"),
    (b"", "not a sound file"),
    (b"RIFF....WAVE", "not a sound file"),
    (None, "None"),
    (3, "int"),
    ([], "list"),
    ((1.0, 2.0), "tuple"),
]


@pytest.mark.parametrize(("item", "says"), BAD, ids=range(len(BAD)))
def test_bad_items_are_refused_by_name(item: Any, says: str) -> None:
    with pytest.raises(BadItem, match=says) as found:
        read_wave(item, RATE, 7)
    assert found.value.position == 7
    assert str(pickle.loads(pickle.dumps(found.value))) == str(found.value)
    seen: list[BadItem] = []
    vectors = MelAudio.tiny(spec("audio/mel")).encode([noise(0.1), item, noise(0.2)], on_error=seen.append)
    assert [bad.position for bad in seen] == [1] and vectors.present.tolist() == [True, False, True]


def test_broken_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "empty.flac").touch()
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1)), RATE)
    soundfile.write(tmp_path / "whole.flac", noise(2.0), RATE)
    half = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "half.flac").write_bytes(half[: len(half) // 2])
    for path in (
        tmp_path / "text.wav",
        tmp_path / "empty.flac",
        tmp_path / "none.wav",
        tmp_path / "half.flac",
        tmp_path,
    ):
        with pytest.raises(BadItem, match="expected a path"):
            read_wave(path, RATE)
    assert wave_file(tmp_path / "whole.flac") == [tmp_path / "whole.flac"]
    with pytest.raises(BadItem, match=r"text\.wav"):
        wave_file(tmp_path / "text.wav")


def test_raw_files_are_refused_and_of_a_cut_wav_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(100))
    with pytest.raises(BadItem, match="raw file"):
        read_wave(tmp_path / "a.raw", RATE)
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    whole = (tmp_path / "a.wav").read_bytes()
    assert len(read_wave(whole[: len(whole) // 2], RATE)) == pytest.approx(RATE // 2, abs=50)


def test_a_key_is_of_the_content(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        soundfile.write(tmp_path / f"{name}.wav", noise(0.1, seed=seed), RATE)
    a, b, c = (wave_key(tmp_path / f"{name}.wav") for name in "abc")
    assert a == b == wave_key(str(tmp_path / "a.wav")) != c
    assert wave_key("gone.wav") != wave_key("lost.wav")
    assert wave_key((noise(0.1), RATE)) == wave_key((noise(0.1), RATE)) != wave_key((noise(0.1), 8_000))


def test_bytes_are_read_from_memory() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([noise(0.1), -noise(0.1)]).T, RATE, format="WAV", subtype="FLOAT")
    assert np.abs(read_wave(buffer.getvalue(), RATE)).max() < 1e-6  # the channels cancel out
