"""What all sound encoders share: long recordings, neighbours, saving, and what they refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import coembed
import coembed_audio
from coembed import CoembedWarning, EncoderSpec, Space
from coembed.spec import resolve
from coembed_audio import tiny
from coembed_audio.clap import ClapAudio
from coembed_audio.clap_text import ClapText
from coembed_audio.locate import CheckpointError
from coembed_audio.mel import MelAudio
from coembed_audio.wav2vec2 import Wav2Vec2Audio
from coembed_audio.whisper import WhisperAudio
from coembed_audio.windows import spread

RATE = 16_000
SPECS = {spec.name: spec for spec in coembed_audio.coembed_encoders()}
SOUND = {"audio/mel": MelAudio, "audio/wav2vec2": Wav2Vec2Audio, "audio/whisper": WhisperAudio, "audio/clap": ClapAudio}
WRITE: dict[Any, Any] = {
    Wav2Vec2Audio: tiny.wav2vec2,
    WhisperAudio: tiny.whisper,
    ClapAudio: tiny.clap,
    ClapText: tiny.clap,
}


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    wave = np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 0.2
    return wave.astype(np.float32)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() < 1e-5)


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys, coembed_audio; list(coembed_audio.coembed_encoders());"
        "print([m for m in ('torch', 'numpy', 'transformers', 'torchaudio', 'soundfile') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("length", [1, 99, 100, 101, 199, 200, 201, 997, 1_000])
def test_windows_cover_every_sample(length: int) -> None:
    starts = spread(length, 100)
    seen = {sample for start in starts for sample in range(start, min(start + 100, length))}
    assert seen == set(range(length))
    assert len(starts) == -(-length // 100)
    assert length < 100 or all(start + 100 <= length for start in starts)  # none is short


@pytest.mark.parametrize("name", ["audio/wav2vec2", "audio/whisper", "audio/clap"])
def test_a_long_recording_is_its_windows_pooled_together(name: str) -> None:
    encoder = SOUND[name].tiny(SPECS[name]).eval()
    long, starts = noise(2.5), spread(40_000, RATE)
    assert starts == [0, 12_000, 24_000]
    parts = [encoder(encoder.collate([long[start : start + RATE]])) for start in starts]
    whole = encoder(encoder.collate([noise(0.4, seed=1), long]))
    real = whole.values[1][whole.mask[1]]
    assert close(real, torch.cat([part.values[0][part.mask[0]] for part in parts]))
    vectors = encoder.encode([long, noise(0.4, seed=1)]).vectors
    assert close(vectors[0], encoder.encode([long]).vectors[0])
    assert not close(vectors[0], encoder.encode([long[:RATE]]).vectors[0])  # the rest is heard


def test_a_long_recording_of_mel() -> None:
    encoder = MelAudio.tiny(SPECS["audio/mel"]).eval()  # windows of half a second: 12 tokens
    items = [noise(2.2), noise(0.3, seed=1)]
    batch = encoder.collate(items)
    tokens = encoder(batch)
    assert tokens.mask.sum(1).tolist() == [55, 7]
    first = encoder({"patches": batch["patches"][:1, :12], "mask": batch["mask"][:1, :12]})
    assert close(tokens.values[:1, :12], first.values)  # a window sees itself alone
    assert close(encoder(encoder.collate(items[1:])).values[0], tokens.values[1, :7])
    states = encoder.hidden_states(batch)
    assert len(states) == 3 and close(states[1].values, encoder(batch, layer=1).values)
    assert close(states[2].values, tokens.values)


def test_mel_hears_the_last_samples_and_its_mask() -> None:
    encoder = MelAudio.tiny(SPECS["audio/mel"]).eval()
    wave = np.zeros(8_000, dtype=np.float32)
    ends = wave.copy()
    ends[-5:] = 1
    assert not close(encoder.encode([wave]).vectors, encoder.encode([ends]).vectors)
    batch = encoder.collate([noise(0.4)])
    hidden = torch.zeros_like(batch["mask"])
    assert torch.equal(encoder(batch | {"masked": hidden}).values, encoder(batch).values)
    hidden[:, 2:4] = True
    other = {**batch, "patches": batch["patches"].clone()}
    other["patches"][:, 2:4] = 7.0
    assert torch.equal(encoder(batch | {"masked": hidden}).values, encoder(other | {"masked": hidden}).values)


@pytest.mark.parametrize("name", SOUND)
def test_one_sample_silence_and_full_scale_come_out_finite(name: str) -> None:
    encoder = SOUND[name].tiny(SPECS[name])
    items = [np.ones(1, np.float32), np.zeros(9_000, np.float32), np.sign(noise(0.3)), noise(1.3)]
    together = encoder.encode(items).vectors
    assert together.isfinite().all()
    for row, item in enumerate(items):
        assert close(encoder.encode([item]).vectors[0], together[row])


@pytest.mark.parametrize("name", SOUND)
def test_a_file_and_its_samples_are_one_sound(name: str, tmp_path: Path) -> None:
    encoder = SOUND[name].tiny(SPECS[name])
    soundfile.write(tmp_path / "a.flac", noise(0.5), RATE, subtype="PCM_24")
    (item,) = encoder.read(tmp_path / "a.flac")
    samples, rate = soundfile.read(tmp_path / "a.flac", dtype="float32")
    vectors = encoder.encode([item, str(item), item.read_bytes(), samples, (samples, rate)]).vectors
    assert close(vectors, vectors[:1].expand_as(vectors))
    assert encoder.size(item) == encoder.size(samples)


@pytest.mark.parametrize("name", SOUND)
def test_prompts_are_refused(name: str) -> None:
    encoder = SOUND[name].tiny(SPECS[name])
    with pytest.raises(ValueError, match="no prompt"):
        encoder.encode(encoder.samples(), prompt="a sound of")


@pytest.mark.parametrize("kind", WRITE)
def test_a_checkpoint_is_saved_and_opened_without_it(kind: Any, tmp_path: Path) -> None:
    source, saved = tmp_path / "source", tmp_path / "saved"
    source.mkdir()
    WRITE[kind](source)
    spec = EncoderSpec(name="audio/x", modality="audio", dim=None, target="coembed_audio:X")
    kwargs: dict[str, Any] = {"window": 0.5 + 1, "pooling": "max"} if kind is Wav2Vec2Audio else {}
    encoder = kind(spec, model=str(source), **kwargs)
    assert encoder.source == str(source)
    items = [*encoder.samples(), noise(2.0) if kind is not ClapText else "x"]
    before = encoder.encode(items).values
    encoder.save(saved)
    shutil.rmtree(source)
    again = kind.open(spec, saved)
    assert torch.equal(again.encode(items).values, before)
    assert again.fingerprint() == encoder.fingerprint()


def test_sounds_and_texts_of_one_clap_share_a_space(tmp_path: Path) -> None:
    towers = {
        "audio": coembed.load("audio/clap", model=_clap(tmp_path)),
        "text": coembed.load("audio/clap-text", model=_clap(tmp_path)),
    }
    space = Space(towers, aligner="identity")
    index = space.index("audio", towers["audio"].samples())
    assert len(index.search(space.encode("text", ["a tone"]), k=3)[0]) == 3


def _clap(folder: Path) -> str:
    if not (folder / "config.json").exists():
        tiny.clap(folder)
    return str(folder)


def test_texts_too_long_are_cut_with_a_warning_once() -> None:
    encoder = ClapText.tiny(SPECS["audio/clap-text"])
    with pytest.warns(CoembedWarning, match="1 of 2 texts"):
        encoder.encode(["a" * 100, "b"])
    encoder.encode(["a" * 100])
    with pytest.raises(coembed.BadItem, match="a string"):
        encoder.encode([b"bytes"])


@pytest.mark.parametrize("kind", WRITE)
def test_checkpoints_that_are_refused(kind: Any, tmp_path: Path) -> None:
    spec = EncoderSpec(name="audio/x", modality="audio", dim=None, target="coembed_audio:X")
    pinned = "org/repo@" + "0" * 40
    for arguments, says in [
        ({}, "no checkpoint named"),
        ({"model": "nowhere"}, "neither a folder"),
        ({"model": "org/repo"}, "not pinned"),
        ({"model": "org/repo", "revision": "main"}, "'main'"),
        ({"model": str(tmp_path), "revision": "0" * 40}, "is a folder"),
        ({"model": str(tmp_path)}, r"config\.json"),
        ({"model": pinned}, "can't be had"),
    ]:
        with pytest.raises(CheckpointError, match=says):
            kind(spec, **arguments)
    WRITE[kind](tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="'bert'"):
        kind(spec, model=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="dim 7"):
        kind(EncoderSpec(name="audio/x", modality="audio", dim=7, target="coembed_audio:X"), model=str(tmp_path))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        kind(spec, model=str(tmp_path))
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no \.safetensors"):
        kind(spec, model=str(tmp_path))


def test_a_checkpoint_without_all_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tiny.whisper(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in state.items() if "encoder.layers.1.fc1" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="2 weights are missing"):
        coembed.load("audio/whisper", model=str(tmp_path))


def test_no_preprocessor_no_encoder(tmp_path: Path) -> None:
    tiny.whisper(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        coembed.load("audio/whisper", model=str(tmp_path))


def test_the_file_that_a_processor_writes_will_do(tmp_path: Path) -> None:
    tiny.whisper(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": json.loads(path.read_text())}))
    path.unlink()
    encoder = coembed.load("audio/whisper", model=str(tmp_path))
    assert encoder.extractor.feature_size == 20


@pytest.mark.parametrize("name", SOUND)
def test_half_precision_runs(name: str) -> None:
    encoder = SOUND[name].tiny(SPECS[name]).eval()
    batch = encoder.collate(encoder.samples())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = encoder.pooled(encoder(batch)).vectors
    assert mixed.isfinite().all()
    half = encoder.bfloat16().encode(encoder.samples())
    assert half.values.dtype == torch.float32 and half.values.isfinite().all()


def test_training_leaves_frozen_statistics_alone_and_draws_no_masks(tmp_path: Path) -> None:
    clap = ClapAudio.tiny(SPECS["audio/clap"]).requires_grad_(False).train()
    before = {name: value.clone() for name, value in clap.state_dict().items()}
    clap(clap.collate(clap.samples()))
    assert all(torch.equal(before[name], value) for name, value in clap.state_dict().items())
    config = Wav2Vec2Audio.tiny(SPECS["audio/wav2vec2"]).model.config
    assert config.mask_time_prob == config.mask_feature_prob == config.layerdrop == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"hop": 0}, "hop=0"), ({"bins": 300}, "bins=300"), ({"window": 0.01}, "window=0.01"), ({"pooling": "x"}, "'x'")],
)
def test_mel_arguments_that_cannot_be(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MelAudio(SPECS["audio/mel"], **arguments)


def test_mel_defaults_leave_no_band_empty(recwarn: pytest.WarningsRecorder) -> None:
    encoder = MelAudio(SPECS["audio/mel"])
    assert not [w for w in recwarn if "mel" in str(w.message).lower()]
    silence, loud = encoder.frames(np.zeros(RATE, np.float32)), encoder.frames(5 * noise(1.0))
    assert (silence == -1).all() and loud.min() > -1 and loud.abs().max() < 2


def test_every_spec_has_a_tiny_and_facts() -> None:
    for spec in SPECS.values():
        cls = resolve(spec.target)
        assert cls.tiny(spec).source is None and spec.license and spec.summary
    pins = [spec.weights for spec in SPECS.values() if spec.weights]
    assert len(pins) == len(set(pins)) == 4
