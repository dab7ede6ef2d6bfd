"""Small checkpoints with random weights, written as they are published: what tests and examples load."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from coembed.encoder import Encoder
from coembed.nn import seeded
from coembed.spec import EncoderSpec
from coembed_audio.checkpoint import quiet

E = TypeVar("E", bound=Encoder)


def from_tiny(kind: type[E], spec: EncoderSpec, write: Callable[[Path], None], **kwargs: Any) -> E:
    """An encoder of class `kind` from the checkpoint that `write` puts into a folder."""
    bare = dataclasses.replace(spec, dim=None, layers=None, weights=None)
    with TemporaryDirectory() as folder, quiet():
        write(Path(folder))
        build: Any = kind
        encoder: E = build(bare, model=folder, **kwargs)
    encoder.source = None  # made here
    return encoder


def wav2vec2(folder: Path, **changes: Any) -> None:
    """A wav2vec 2.0 of two layers behind three convolutions."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": (16, 16, 16),
        "conv_kernel": (10, 8, 4),
        "conv_stride": (8, 8, 5),
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    }
    with seeded(0):
        Wav2Vec2Model(Wav2Vec2Config(**shape | changes)).save_pretrained(str(folder))
    Wav2Vec2FeatureExtractor(sampling_rate=16_000, do_normalize=True).save_pretrained(str(folder))


def whisper(folder: Path, seconds: int = 1) -> None:
    """A Whisper of two layers on clips of `seconds`."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    config = WhisperConfig(
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        num_mel_bins=20,
        max_source_positions=50 * seconds,
        max_target_positions=8,
        vocab_size=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    with seeded(0):
        WhisperModel(config).save_pretrained(str(folder))
    WhisperFeatureExtractor(feature_size=20, chunk_length=seconds).save_pretrained(str(folder))


def clap(folder: Path, *, fused: bool = False) -> None:
    """A CLAP of two stages on clips of one second at 16 kHz, and a text half of two layers over bytes."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerFast

    sound = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "window_size": 4,
        "depths": [2, 2],
        "num_attention_heads": [2, 4],
        "patch_embeds_hidden_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "enable_fusion": fused,
        "fusion_type": "aff_2d" if fused else None,
    }
    text = {
        "vocab_size": 261,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
        "pad_token_id": 1,
    }
    with seeded(0):
        config = ClapConfig(audio_config=sound, text_config=text, projection_dim=24)
        ClapModel(config).save_pretrained(str(folder))
    ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=16_000,
        hop_length=160,
        max_length_s=1,
        fft_window_size=512,
        frequency_max=8_000,
        truncation="fusion" if fused else "rand_trunc",
    ).save_pretrained(str(folder))
    PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=64
    ).save_pretrained(str(folder))


def byte_tokenizer() -> Any:
    """A tokeniser of single bytes with RoBERTa's special tokens.

    >>> byte_tokenizer().encode("a").tokens
    ['<s>', 'a', '</s>']
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer
