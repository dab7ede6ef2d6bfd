"""Every wrapped architecture gives what its class in transformers gives, on features of its own extractor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    ClapTextModelWithProjection,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperFeatureExtractor,
    WhisperModel,
)

from coembed import EncoderSpec
from coembed_audio import tiny
from coembed_audio.clap import ClapAudio
from coembed_audio.clap_text import ClapText
from coembed_audio.wav2vec2 import Wav2Vec2Audio
from coembed_audio.whisper import WhisperAudio

RATE = 16_000


def spec(name: str, modality: str = "audio") -> EncoderSpec:
    return EncoderSpec(name=name, modality=modality, dim=None, target="coembed_audio:X")


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    wave = np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 0.2
    return wave.astype(np.float32)


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


CLIPS = [tone(0.4), noise(0.9), noise(0.31, seed=1), np.zeros(8_000, dtype=np.float32), 0.9 * noise(1.0, seed=2)]


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("stable", [False, True])
@torch.no_grad()
def test_wav2vec2(tmp_path: Path, norm: str, stable: bool) -> None:
    tiny.wav2vec2(tmp_path, feat_extract_norm=norm, do_stable_layer_norm=stable, conv_bias=norm == "layer")
    reference = Wav2Vec2Model.from_pretrained(tmp_path).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
    encoder = Wav2Vec2Audio(spec("audio/wav2vec2"), model=str(tmp_path))
    tokens = encoder.eval()(encoder.collate(CLIPS))
    for row, clip in enumerate(CLIPS):
        values = extractor(clip, sampling_rate=RATE, return_tensors="pt").input_values
        expected = reference(values).last_hidden_state[0]
        found = tokens.values[row][tokens.mask[row]]
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-5
        assert (encoder.encode([clip]).vectors[0] - expected.mean(0)).abs().max() < 1e-5
    hidden = reference(values, output_hidden_states=True).hidden_states
    if not stable:  # a stable layer norm comes once, after the last layer that runs
        early = encoder(encoder.collate(CLIPS[-1:]), layer=1)
        assert (early.values[0] - hidden[1][0]).abs().max() < 1e-5


@torch.no_grad()
def test_wav2vec2_equals_its_own_masked_batches(tmp_path: Path) -> None:
    tiny.wav2vec2(tmp_path, feat_extract_norm="layer", do_stable_layer_norm=True)
    reference = Wav2Vec2Model.from_pretrained(tmp_path).eval()
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path, return_attention_mask=True)
    batch = extractor(CLIPS, sampling_rate=RATE, padding=True, return_attention_mask=True, return_tensors="pt")
    expected = reference(**batch).last_hidden_state
    encoder = Wav2Vec2Audio(spec("audio/wav2vec2"), model=str(tmp_path)).eval()
    mine = encoder.collate(CLIPS)
    assert (mine["features"][:, 0] - batch.input_values).abs().max() < 1e-6
    tokens = encoder(mine)
    assert ((tokens.values - expected)[tokens.mask]).abs().max() < 1e-5


@torch.no_grad()
def test_whisper(tmp_path: Path) -> None:
    tiny.whisper(tmp_path)
    reference = WhisperModel.from_pretrained(tmp_path).eval().encoder
    extractor = WhisperFeatureExtractor.from_pretrained(tmp_path)
    encoder = WhisperAudio(spec("audio/whisper"), model=str(tmp_path)).eval()
    expected = extractor(CLIPS, sampling_rate=RATE, return_tensors="pt").input_features
    batch = encoder.collate(CLIPS)
    assert (batch["features"][:, 0] - expected).abs().max() < 1e-5
    states = reference(expected, output_hidden_states=True)
    tokens = encoder(batch)
    for row, clip in enumerate(CLIPS):
        real = -(-len(clip) // 320)
        assert int(tokens.mask[row].sum()) == real
        whole = states.last_hidden_state[row, :real]
        assert (tokens.values[row, :real] - whole).abs().max() < 1e-5
        assert (encoder.encode([clip]).vectors[0] - whole.mean(0)).abs().max() < 1e-5
        early = reference.layer_norm(states.hidden_states[1][row, :real])
        assert (encoder(batch, layer=1).values[row, :real] - early).abs().max() < 1e-5


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_clap(tmp_path: Path, fused: bool) -> None:
    tiny.clap(tmp_path, fused=fused)
    reference = ClapAudioModelWithProjection.from_pretrained(tmp_path).eval()
    extractor = ClapFeatureExtractor.from_pretrained(tmp_path)
    encoder = ClapAudio(spec("audio/clap"), model=str(tmp_path)).eval()
    features = extractor(CLIPS, sampling_rate=RATE, return_tensors="pt").input_features.float()
    assert (encoder.collate(CLIPS)["features"][:, 0] - features).abs().max() < 1e-5
    # upstream calls one clip of a batch long by chance when none is; as it is, none is
    longer = torch.zeros(len(CLIPS), 1, dtype=torch.bool)
    expected = reference(input_features=features, is_longer=longer).audio_embeds
    assert (encoder.encode(CLIPS).vectors - expected).abs().max() < 1e-5


@torch.no_grad()
def test_clap_text(tmp_path: Path) -> None:
    tiny.clap(tmp_path)
    texts = ["a dog barks", "rain", "", "Größe 東京"]
    reference = ClapTextModelWithProjection.from_pretrained(tmp_path).eval()
    tokens = AutoTokenizer.from_pretrained(tmp_path)(texts, padding=True, return_tensors="pt")
    expected = reference(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).text_embeds
    encoder = ClapText(spec("audio/clap-text", "text"), model=str(tmp_path))
    assert (encoder.encode(texts).vectors - expected).abs().max() < 1e-5
    sound = ClapAudio(spec("audio/clap"), model=str(tmp_path))
    assert sound.dim == encoder.dim == 24
