"""Texts and types to numbers, the same on every machine, with no vocabulary to carry."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+|\d+|[^\w\s]")


def digest(text: str) -> int:
    """64 bits that stand for a text.

    >>> digest("") == digest("")
    True
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


@lru_cache(maxsize=1 << 16)
def grams(text: str, buckets: int) -> tuple[int, ...]:
    """The columns below `buckets` of a text: itself as one category, its words, and their n-grams of three letters.

    Identifiers are split into words. Every text has at least one, the empty one too.

    >>> len(grams("", 64)), set(grams("parseFile", 9999)) & set(grams("a parser", 9999)) != set()
    (1, True)
    """
    terms = ["=" + text]  # as it is: categories may differ in case alone
    for word in _WORD.findall(text):
        marked = f"<{word.lower()}>"
        terms.append(marked)
        terms += [marked[i : i + 3] for i in range(len(marked) - 2) if len(marked) > 3]
    return tuple(digest(term) % buckets for term in terms)
