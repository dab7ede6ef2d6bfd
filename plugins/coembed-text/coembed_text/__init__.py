"""coembed-text: text encoders, from any published checkpoint to a lexical baseline."""

from __future__ import annotations

from collections.abc import Iterator

from coembed import EncoderSpec, hookimpl


@hookimpl
def coembed_encoders() -> Iterator[EncoderSpec]:
    """The four open encoders, then the named checkpoints."""
    from coembed_text.entries import NAMED

    yield EncoderSpec(
        name="text/hf",
        modality="text",
        dim=None,
        target="coembed_text.hf:HfText",
        summary="Any Hugging Face or sentence-transformers checkpoint, by folder or pinned hub name.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="text/static",
        modality="text",
        dim=None,
        target="coembed_text.static:StaticText",
        summary="A table of token vectors and their mean: reads model2vec and wordllama files.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="text/transformer",
        modality="text",
        dim=256,
        layers=4,
        prompts={"query": "", "document": ""},
        target="coembed_text.transformer:TextTransformer",
        summary="A small transformer trained from scratch; bytes, own BPE or words; early exit.",
        license="Apache-2.0",
    )
    yield EncoderSpec(
        name="text/tfidf",
        modality="text",
        dim=4096,
        prompts={"query": "", "document": ""},
        target="coembed_text.tfidf:TfIdf",
        summary="TF-IDF of words and letter n-grams: the lexical baseline that trained encoders must beat.",
        license="Apache-2.0",
    )
    yield from NAMED
