"""`text/transformer`: the core's transformer over text, trained from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from coembed.nn import TransformerEncoder
from coembed.spec import EncoderSpec
from coembed_text.texts import SAMPLES, read_file


class TextTransformer(TransformerEncoder):
    """Encode text with a small transformer that starts from random weights: arguments as in `TransformerEncoder`.

    `tokenizer` is "bytes" (no training), "bpe:SIZE" or "words:SIZE" (call `fit_tokenizer` with a corpus first).

    >>> spec = EncoderSpec(name="text/transformer", modality="text", dim=32, target="coembed_text.transformer:X")
    >>> encoder = TextTransformer(spec, layers=2, tokenizer="bpe:300")
    >>> encoder.fit_tokenizer(["a cat sat", "a dog ran"] * 3); encoder.encode(["a cat"], layer=1).dim
    32
    """

    def read(self, path: Path) -> list[str]:
        """The whole text file as one item; raises ValueError for what is not UTF-8 text."""
        return read_file(path)

    @classmethod
    def samples(cls) -> Sequence[str]:
        """A few texts that differ."""
        return list(SAMPLES)

    @classmethod
    def tiny(cls, spec: EncoderSpec) -> Self:
        """Two layers of width 32 over bytes."""
        kwargs = {**spec.kwargs, "dim": 32, "layers": 2}
        return cls(replace(spec, kwargs=kwargs), **kwargs)
