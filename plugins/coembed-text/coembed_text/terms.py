"""Text to terms: words, also those inside identifiers, their n-grams, and a hash that is the same everywhere."""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterator

_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # written without spaces: each character is a word
_RUNS = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


def split_words(text: str) -> list[str]:
    """The words of a text, case folded; identifiers are split at case, digits and underscores.

    >>> split_words("Parse the HTTPServer's max_retries2")
    ['parse', 'the', 'http', 'server', 's', 'max', 'retries', '2']
    """
    words: list[str] = []
    for run in _RUNS.findall(unicodedata.normalize("NFKC", text)):
        if run.islower() and run.isalpha():
            words.append(run.casefold())
        else:
            words += [part.casefold() for part in _parts(run)]
    return words


def _parts(run: str) -> Iterator[str]:
    """A run of letters and digits, cut before a capital that starts a word and between letters and digits."""
    start = 0
    for i in range(1, len(run)):
        before, here, after = run[i - 1], run[i], run[i + 1 : i + 2]
        new_word = here.isupper() and (before.islower() or (before.isupper() and after.islower()))
        if new_word or before.isdigit() != here.isdigit():
            yield run[start:i]
            start = i
    yield run[start:]


def terms(text: str, words: int = 2, chars: int = 0) -> Iterator[str]:
    """The 1- to `words`-grams of words and, within each word, the 3- to `chars`-grams of characters.

    >>> list(terms("red cat", words=2)), list(terms("cat", words=0, chars=4))
    (['red', 'cat', 'red cat'], ['#^ca', '#cat', '#at$', '#^cat', '#cat$'])
    """
    found = split_words(text)
    for n in range(1, words + 1):
        for i in range(len(found) - n + 1):
            yield " ".join(found[i : i + n])
    for word in found if chars else ():
        framed = f"^{word}$"
        for n in range(3, chars + 1):
            for i in range(len(framed) - n + 1):
                yield "#" + framed[i : i + n]


@functools.lru_cache(maxsize=1 << 17)
def term_hash(term: str) -> int:
    """64 bits of a term, the same in every process and on every machine (Python's own hash is not).

    >>> term_hash("cat") == term_hash("cat") < 2**64
    True
    """
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "big")
