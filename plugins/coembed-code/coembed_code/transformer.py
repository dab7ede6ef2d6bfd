"""A code encoder to train from scratch: the shared transformer behind a tokeniser that knows code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from coembed.items import BadItem, describe
from coembed.nn import TransformerEncoder
from coembed.spec import EncoderSpec
from coembed_code import functions
from coembed_code.samples import SAMPLES
from coembed_code.tokenizer import code_bpe

__all__ = ["CodeTransformer"]


class CodeTransformer(TransformerEncoder):
    """Encode functions with a small transformer that starts from random weights.

    Items are strings of code, in any language. Until `fit_tokenizer` has met a corpus it reads bytes; after that,
    `code_bpe` of `vocab_size` ids (see `coembed_code.tokenizer` for what it keeps and forgets). `lowercase` makes
    `userName` and `user_name` one. The other arguments are those of `TransformerEncoder`; `max_length` is in tokens.
    ValueError names an argument that cannot be.

    >>> encoder = CodeTransformer.tiny(EncoderSpec(name="demo/code", modality="code", dim=32, target="demo:Code"))
    >>> encoder.fit_tokenizer(encoder.samples())
    >>> encoder.encode(["def f(x): return x"]).dim
    32
    """

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        vocab_size: int = 8000,
        lowercase: bool = False,
        dim: int | None = None,
        layers: int | None = None,
        heads: int = 4,
        ff: int | None = None,
        dropout: float = 0.1,
        max_length: int = 512,
        positions: Literal["learned", "rotary", "none"] = "learned",
        norm: Literal["pre", "post"] = "pre",
        activation: Literal["gelu", "relu", "silu"] = "gelu",
        pooling: str = "mean",
        pool_prompt: bool = True,
        seed: int | None = 0,
    ) -> None:
        super().__init__(
            spec,
            tokenizer=f"bpe:{vocab_size}",
            dim=dim,
            layers=layers,
            heads=heads,
            ff=ff,
            dropout=dropout,
            max_length=max_length,
            positions=positions,
            norm=norm,
            activation=activation,
            pooling=pooling,
            pool_prompt=pool_prompt,
            seed=seed,
        )
        self.vocab_size = vocab_size
        self.lowercase = lowercase

    def fit_tokenizer(self, items: Iterable[Any]) -> None:
        """Train the vocabulary on a corpus of code, before any weights are trained: the token table starts anew.

        ValueError when it has been trained before: a second vocabulary would void the weights.
        """
        if self.fitted:
            raise ValueError(f"{self.spec.name}: the vocabulary is settled; build a new encoder to train another")
        texts = (self._text(item, i) for i, item in enumerate(items))
        self._replace_tokenizer(code_bpe(texts, self.vocab_size, lowercase=self.lowercase))

    def prepare(self, item: Any, position: int) -> str:
        """The item itself; raises BadItem unless it is a string."""
        if not isinstance(item, str):
            raise BadItem(position, describe(item), "source code as a string")
        return item

    def read(self, path: Path) -> list[Any]:
        """The functions of a source file, or the whole file where it has none; raises ValueError naming the file."""
        return functions.items(path)

    @classmethod
    def samples(cls) -> Sequence[Any]:
        """Short functions in several languages."""
        return list(SAMPLES)
