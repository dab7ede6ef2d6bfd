"""Tokens: texts and code to the words that BM25 counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Tokenize = Callable[[Any], list[str]]

# Scripts that put no spaces between words: Han, kana, Hangul syllables stay whole words by their spaces.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fa1f"
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}]+(?:['’][^\W\d_{_UNSPACED}]+)?")
_IDENTIFIER = re.compile(r"[^\W\d]\w*|\d+(?:\.\d+)?")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")


def words(text: str) -> list[str]:
    """Words in lower case, without stemming or stop words; of scripts without spaces, pairs of characters.

    >>> words("Don't panic, 日本語")
    ["don't", 'panic', '日本', '本語']
    """
    found = []
    for word in _WORD.findall(text.lower()):
        if re.match(rf"[{_UNSPACED}]", word) and len(word) > 1:
            found += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            found.append(word.replace("’", "'"))
    return found


def code(text: str) -> list[str]:
    """Identifiers in lower case, and the parts of those that have several (`parseHTTPHeader`, `read_csv`).

    Words of a question come out as they are, so that "http header" meets `parseHTTPHeader`.

    >>> code("x = parseHTTPHeader(read_csv, 2.5)")
    ['x', 'parsehttpheader', 'parse', 'http', 'header', 'read_csv', 'read', 'csv', '2.5']
    """
    found = []
    for name in _IDENTIFIER.findall(text):
        parts = _PARTS.findall(name) if "." not in name else []
        found += [name.lower(), *(part.lower() for part in parts)] if len(parts) > 1 else [name.lower()]
    return found


TOKENS = 1  # goes up whenever a named function finds other words: what was counted before is then counted anew
NAMED: dict[str, Tokenize] = {"words": words, "code": code}


def tokenizer(given: str | Tokenize) -> Tokenize:
    """A tokenizer by name, or the callable itself; raises ValueError for another name.

    >>> tokenizer("words")("A cat")
    ['a', 'cat']
    """
    if callable(given):
        return given
    if given not in NAMED:
        raise ValueError(f"tokenize {given!r}: give {' or '.join(map(repr, NAMED))}, or a function item -> list of str")
    return NAMED[given]
