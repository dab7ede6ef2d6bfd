"""The parts shelf for encoder authors.

- `transformer`: `TransformerConfig`, `Block`, `Transformer`: the one transformer, vectors in, vectors out
- `attention`: `MultiHeadAttention`, `Rotary`, `rotate`, `visibility`, `position_ids`: its attention and who sees whom
- `packing`: `pack`, `Packed`: several sequences in one row, no work on padding
- `tokens`: `TokenEmbedding`: ids to vectors, with a mask token
- `tokenizer`: `Tokenizer`, `pad_rows`, `build_tokenizer`; `bytes_tokenizer`, `bpe`, `words`, `kmers`, `characters`
- `pooling`: `POOLINGS`: `Mean`, `First`, `Last`, `Max`, `WeightedMean`, `Attention`
- `body`: `BodyEncoder`: base of encoders whose tokens are patches, frames, anything
- `encoder`: `TransformerEncoder`: base of encoders whose items are strings
- `seeding`: `seeded`, `init_weights`: random weights that leave the global generator alone

Names resolve on first use: an encoder of patches never imports a tokeniser.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_MODULES = {
    "attention": ("MultiHeadAttention", "Rotary", "position_ids", "rotate", "visibility"),
    "body": ("BodyEncoder",),
    "encoder": ("TransformerEncoder",),
    "packing": ("Packed", "pack"),
    "pooling": ("POOLINGS", "Attention", "First", "Last", "Max", "Mean", "WeightedMean"),
    "seeding": ("init_weights", "seeded"),
    "tokenizer": ("Tokenizer", "bpe", "build_tokenizer", "bytes_tokenizer", "characters", "kmers", "pad_rows", "words"),
    "tokens": ("TokenEmbedding",),
    "transformer": ("Block", "Transformer", "TransformerConfig"),
}
_EXPORTS = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'coembed.nn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"coembed.nn.{_EXPORTS[name]}"), name)
    globals()[name] = value  # the next access is a plain attribute
    return value


def __dir__() -> list[str]:
    return list(__all__)


if TYPE_CHECKING:
    from coembed.nn.attention import MultiHeadAttention as MultiHeadAttention
    from coembed.nn.attention import Rotary as Rotary
    from coembed.nn.attention import position_ids as position_ids
    from coembed.nn.attention import rotate as rotate
    from coembed.nn.attention import visibility as visibility
    from coembed.nn.body import BodyEncoder as BodyEncoder
    from coembed.nn.encoder import TransformerEncoder as TransformerEncoder
    from coembed.nn.packing import Packed as Packed
    from coembed.nn.packing import pack as pack
    from coembed.nn.pooling import POOLINGS as POOLINGS
    from coembed.nn.pooling import Attention as Attention
    from coembed.nn.pooling import First as First
    from coembed.nn.pooling import Last as Last
    from coembed.nn.pooling import Max as Max
    from coembed.nn.pooling import Mean as Mean
    from coembed.nn.pooling import WeightedMean as WeightedMean
    from coembed.nn.seeding import init_weights as init_weights
    from coembed.nn.seeding import seeded as seeded
    from coembed.nn.tokenizer import Tokenizer as Tokenizer
    from coembed.nn.tokenizer import bpe as bpe
    from coembed.nn.tokenizer import build_tokenizer as build_tokenizer
    from coembed.nn.tokenizer import bytes_tokenizer as bytes_tokenizer
    from coembed.nn.tokenizer import characters as characters
    from coembed.nn.tokenizer import kmers as kmers
    from coembed.nn.tokenizer import pad_rows as pad_rows
    from coembed.nn.tokenizer import words as words
    from coembed.nn.tokens import TokenEmbedding as TokenEmbedding
    from coembed.nn.transformer import Block as Block
    from coembed.nn.transformer import Transformer as Transformer
    from coembed.nn.transformer import TransformerConfig as TransformerConfig
