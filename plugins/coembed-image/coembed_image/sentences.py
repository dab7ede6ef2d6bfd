"""Sentences of a caption, cut where a sentence ends and not at every full stop."""

from __future__ import annotations

import re

__all__ = ["sentences"]

# What ends in a full stop without ending a sentence, and what does so before a number only; without its last stop.
_SHORT = frozenset("e.g i.e etc cf vs approx ca al mr mrs ms dr prof st jr dept".split())
_NUMBERED = frozenset("no nos fig figs vol pp p sec eq".split())
_END = re.compile(r"""[.!?…]+["'”’)\]]*(?=\s|$)|[。！？]""")
_LAST = re.compile(r"[\w.]+$")


def sentences(text: str) -> list[str]:
    """A text's sentences in order, without the space around them; a line break ends one too.

    A full stop ends a sentence only before a space or the end, so "3.5" stays whole; not after an abbreviation such as
    "e.g." or a single initial; and not before a small letter.

    >>> sentences("A cat, e.g. a 3.5 kg one. It sleeps.")
    ['A cat, e.g. a 3.5 kg one.', 'It sleeps.']
    """
    found: list[str] = []
    for line in text.splitlines():
        start = 0
        for end in _END.finditer(line):
            if end[0][0] == "." and _goes_on(line[start : end.start()], line[end.end() :]):
                continue
            found.append(line[start : end.end()].strip())
            start = end.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if re.search(r"\w", sentence)]


def _goes_on(before: str, after: str) -> bool:
    """Whether a full stop between two parts of a line is inside a sentence."""
    rest = after.lstrip()
    if not rest:
        return False
    last = _LAST.search(before)
    word = last[0].lower() if last else ""
    initial = len(word) == 1 and word.isalpha() and last is not None and last[0].isupper()
    numbered = word in _NUMBERED and rest[0].isdecimal()
    return word in _SHORT or numbered or initial or rest[0].islower()
