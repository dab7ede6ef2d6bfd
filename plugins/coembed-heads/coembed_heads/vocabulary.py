"""The tokeniser of an encoder as far as a cloze template needs it: ids of text, the mask token, rows to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import tokenizers
import torch
from torch import Tensor

from coembed.encoder import Encoder
from coembed.items import BadItem, describe
from coembed.nn import TransformerEncoder, pad_rows

__all__ = ["Vocabulary", "vocabulary"]

_MASKS = ("[MASK]", "<mask>")


class Vocabulary(Protocol):
    """Ids without special tokens, the special ids in front and behind, and rows of ids to the encoder's batch."""

    mask: int
    before: list[int]
    after: list[int]
    limit: int | None

    def text(self, text: str) -> list[int]:
        """The ids of a piece of a template."""

    def items(self, items: Sequence[Any], prompt: str) -> list[list[int]]:
        """The ids of items behind a prompt, none of them special; raises BadItem."""

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Rows of ids, padded on the right, as the encoder's `forward` takes them."""


class _Shelf:
    """That of the core's from-scratch encoders, whose tokenisers never read a special token from text."""

    def __init__(self, encoder: TransformerEncoder) -> None:
        tokenizer = encoder.tokenizer
        self.encoder = encoder
        self.mask, self.before, self.after = tokenizer.mask, [tokenizer.cls], [tokenizer.sep]
        self.limit: int | None = encoder.max_length

    def text(self, text: str) -> list[int]:
        return self.encoder.tokenizer.ids(text)[1:-1]

    def items(self, items: Sequence[Any], prompt: str) -> list[list[int]]:
        return [list(row)[1:-1] for row in self.encoder.tokenize(items, prompt)]

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        ids, mask = pad_rows(rows, self.encoder.tokenizer.pad)
        return {"ids": ids, "mask": mask}


class _Checkpoint:
    """That of a Hugging Face checkpoint (`text/hf`, `code/hf`), read so that text holds no special token."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        backend: tokenizers.Tokenizer = encoder.tokenizer
        known = [backend.token_to_id(token) for token in _MASKS]
        found = next((token for token in known if token is not None), None)
        if found is None:
            raise ValueError(f"{encoder.spec.name}: its vocabulary has neither {' nor '.join(_MASKS)}")
        self.mask: int = found
        around = backend.encode("a")
        own = [place for place, special in enumerate(around.special_tokens_mask) if not special]
        self.before, self.after = around.ids[: own[0]], around.ids[own[-1] + 1 :]
        self.limit: int | None = encoder.max_length
        self.pad = int(getattr(encoder.model.config, "pad_token_id", None) or 0)

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        backend = tokenizers.Tokenizer.from_str(self.encoder.tokenizer.to_str())
        backend.no_truncation()
        backend.encode_special_tokens = True  # a user's literal mask is text like any other
        return [row.ids for row in backend.encode_batch(list(texts), add_special_tokens=False)]

    def text(self, text: str) -> list[int]:
        return self._encoded([text])[0]

    def items(self, items: Sequence[Any], prompt: str) -> list[list[int]]:
        for position, item in enumerate(items):
            try:
                valid = isinstance(item, str) and item.encode() is not None
            except UnicodeEncodeError:
                valid = False
            if not valid:
                raise BadItem(position, describe(item), "a string of valid Unicode")
        return self._encoded([prompt + item for item in items])

    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        ids, mask = pad_rows(rows, self.pad)
        inputs = {"input_ids": ids, "attention_mask": mask.long(), "token_type_ids": torch.zeros_like(ids)}
        return {name: inputs[name] for name in dict.fromkeys((*self.encoder.inputs, "attention_mask"))}


def vocabulary(encoder: Encoder) -> Vocabulary:
    """The vocabulary of an encoder that has a mask token.

    Raises ValueError for one that has none, or whose tokens are not known to be ids of text.

    >>> import coembed
    >>> vocabulary(coembed.load("text/transformer", dim=8, layers=1, heads=1)).text("ab")
    [69, 70]
    """
    if isinstance(encoder, TransformerEncoder):
        return _Shelf(encoder)
    if isinstance(getattr(encoder, "tokenizer", None), tokenizers.Tokenizer) and hasattr(encoder, "inputs"):
        return _Checkpoint(encoder)
    raise ValueError(
        f"{encoder.spec.name} has no mask token that is known here: a cloze template needs an encoder of text that "
        "was trained to fill masks, such as text/transformer, code/transformer, text/hf or code/hf"
    )
