"""Prompts that are read but not pooled: where in a row of tokens the item begins, told by character offsets."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Encoding, Tokenizer

__all__ = ["Ids", "prompt_length", "prompt_lengths"]


class Ids(list[int]):
    """A row of token ids, of which the first `hidden` are read but not pooled.

    >>> Ids([7, 8, 9], hidden=1).hidden
    1
    """

    def __init__(self, ids: Sequence[int], hidden: int = 0) -> None:
        super().__init__(ids)
        self.hidden = hidden


def prompt_length(encoding: Encoding, characters: int) -> int:
    """How many tokens at the start of a row come before the item, whose text follows `characters` of prompt.

    Special tokens in front count, those behind don't. A token that holds some of the item is the item's: a tokeniser
    may merge across the seam, which is why tokens of the bare prompt must not be counted instead.

    >>> from coembed.nn import bytes_tokenizer
    >>> prompt_length(bytes_tokenizer().backend.encode("find: cat"), len("find: "))
    6
    """
    special = encoding.special_tokens_mask
    for place, (_, end) in enumerate(encoding.offsets):
        if end > characters and not special[place]:
            return place
    place = len(special)
    while place and special[place - 1]:
        place -= 1
    return place


def prompt_lengths(tokenizer: Tokenizer, texts: Sequence[str], characters: int) -> list[int]:
    """`prompt_length` of texts that all begin with the same prompt."""
    return [prompt_length(encoding, characters) for encoding in tokenizer.encode_batch(list(texts))]
