"""WordNet's data files: synsets with their words, typed pointers and glosses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PARTS = ("noun", "verb", "adj", "adv")

_RELATIONS = {
    "!": "antonym", "@": "hypernym", "@i": "instance of", "~": "hyponym", "~i": "instance", "#m": "member of",
    "#s": "substance of", "#p": "part of", "%m": "has member", "%s": "has substance", "%p": "has part",
    "=": "attribute", "+": "derivation", ";c": "topic", ";r": "region", ";u": "usage", "-c": "topic of",
    "-r": "region of", "-u": "usage of", "*": "entails", ">": "causes", "^": "see also", "$": "verb group",
    "&": "similar", "<": "participle of", "\\": "pertains to",
}  # fmt: skip
_MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective may stand


class Synset(NamedTuple):
    """A set of synonyms: `key` is part of speech and offset ("n00001740"), `pointers` are (relation, key)."""

    key: str
    words: tuple[str, ...]
    pointers: tuple[tuple[str, str], ...]
    gloss: str

    @property
    def definition(self) -> str:
        """The gloss without its quoted examples, which hold the words.

        >>> Synset("n1", ("run",), (), 'a race; "she broke the record for the mile run"').definition
        'a race'
        """
        return self.gloss.partition('; "')[0].strip(" ;")


def read_synsets(path: Path) -> Iterator[Synset]:
    """The synsets of one data file, in its order. Raises ValueError naming a line that is none."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.startswith("  "):  # the licence
                continue
            try:
                yield _synset(line)
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}, line {number} is no synset of WordNet's format: {line[:60]!r}") from error


def _synset(line: str) -> Synset:
    facts, bar, gloss = line.partition(" | ")
    fields = facts.split()
    end = 4 + 2 * int(fields[3], 16)
    count = int(fields[end])
    rows = fields[end + 1 : end + 1 + 4 * count]
    if not bar or len(rows) != 4 * count:
        raise ValueError("too short")
    pointers = tuple(
        (_RELATIONS.get(symbol, symbol), _key(part, offset))
        for symbol, offset, part in zip(rows[::4], rows[1::4], rows[2::4], strict=True)
    )
    words = tuple(_MARKER.sub("", word).replace("_", " ") for word in fields[4:end:2])
    return Synset(_key(fields[2], fields[0]), words, pointers, gloss.strip())


def _key(part: str, offset: str) -> str:
    return f"{'a' if part == 's' else part}{int(offset):08}"  # satellites lie in the adjectives' file
