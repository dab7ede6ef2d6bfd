"""coembed-audio: sound encoders, from published wav2vec 2.0, Whisper and CLAP to a small one trained from scratch."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import EncoderSpec, hookimpl

_WAV2VEC2 = "coembed_audio.wav2vec2:Wav2Vec2Audio"
_WHISPER = "coembed_audio.whisper:WhisperAudio"

# fmt: off
# name, target, weights, dim, layers, licence, summary. CLAP's own repositories hold no safetensors, so none is named.
_NAMED: tuple[tuple[str, str, str, int, int, str, str], ...] = (
    ("wav2vec2-base-960h", _WAV2VEC2, "facebook/wav2vec2-base-960h@22aad52d435eb6dbaf354bdad9b0da84ce7d6156",
     768, 12, "Apache-2.0", "wav2vec 2.0 base, 94M: fine-tuned on 960 hours of English speech."),
    ("whisper-tiny", _WHISPER, "openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
     384, 4, "Apache-2.0", "Whisper tiny's encoder, 8M: speech in about 100 languages."),
    ("whisper-base", _WHISPER, "openai/whisper-base@e37978b90ca9030d5170a5c07aadb050351a65bb",
     512, 6, "Apache-2.0", "Whisper base's encoder, 21M: speech in about 100 languages."),
    ("whisper-small", _WHISPER, "openai/whisper-small@973afd24965f72e36ca33b3055d56a652f456b4d",
     768, 12, "Apache-2.0", "Whisper small's encoder, 88M: speech in about 100 languages."),
)
# fmt: on


@hookimpl
def coembed_encoders() -> Iterator[EncoderSpec]:
    """The open encoders first, then the pinned checkpoints."""
    yield EncoderSpec(
        name="audio/mel",
        modality="audio",
        dim=192,
        layers=6,
        target="coembed_audio.mel:MelAudio",
        summary="A small transformer on log-mel patches, trained from scratch; early exit at every layer.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="audio/wav2vec2",
        modality="audio",
        dim=None,
        target=_WAV2VEC2,
        summary="Any wav2vec 2.0 checkpoint, by folder or pinned hub name.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="audio/whisper",
        modality="audio",
        dim=None,
        target=_WHISPER,
        summary="The encoder of any Whisper checkpoint, by folder or pinned hub name.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="audio/clap",
        modality="audio",
        dim=None,
        target="coembed_audio.clap:ClapAudio",
        summary="The sound half of any CLAP checkpoint, by folder or pinned hub name.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="audio/clap-text",
        modality="text",
        dim=None,
        prompts={"query": "", "document": ""},
        target="coembed_audio.clap_text:ClapText",
        summary="The text half of any CLAP checkpoint, in the space of audio/clap.",
        license="Apache-2.0",
    )
    for name, target, weights, dim, layers, licence, summary in _NAMED:
        yield EncoderSpec(
            name=f"audio/{name}",
            modality="audio",
            dim=dim,
            layers=layers,
            target=target,
            summary=summary,
            license=licence,
            weights=weights,
        )
