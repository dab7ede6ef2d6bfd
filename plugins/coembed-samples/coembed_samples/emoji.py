"""`samples/emoji`: pictures and words of 1,911 emoji."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from PIL import Image

from coembed.sources import Record, Source

SplitBy = Literal["base", "subgroup"]


class Emoji(Source):
    """Emoji as pairs of a picture (PIL, RGB, 32 x 32, on white) and a text `label: tag, tag` in one of ten languages.

    Records come in Unicode's order, pictures of Noto (Emoji 16.0), words of emojibase 17.0. `id` is the hexcode in
    lower case without presentation selectors, `label` the Unicode subgroup (`animal-bird`), `extra["emoji"]` the
    character.

    `split_by` chooses `group`, that is, what `split` keeps together:

    - `"base"` keeps near-duplicates together, under the id of the family's first member. Within a Unicode subgroup two
      emoji are of one family if their code points agree once gender, skin, hair and direction are taken out (man and
      woman running, facing right or not; the cat and the black cat); if their English labels agree up to a colon once
      words of gender, colour, size, direction, order and state are dropped (every national flag, every keycap, red and
      green apple, every mailbox); if they belong to one of a few listed families (clocks, moon phases, signs of
      the zodiac, banknotes); or if their pictures or their words are nearly equal. Across subgroups both must be. The
      relation is closed transitively.
    - `"subgroup"` holds out whole Unicode subgroups, the harder test; the two families that cross a subgroup go with
      their first member.

    The largest base family, the national flags, is 259 records: whether it is held out changes what `split` tests.
    Raises ValueError for a language that is not carried or an unknown `split_by`.

    >>> source = Emoji()
    >>> len(source), source[0]["text"].partition(":")[0], source[0]["image"].size
    (1911, 'grinning face', (32, 32))
    """

    def __init__(self, language: str = "en", split_by: SplitBy = "base") -> None:
        if language not in self.languages():
            raise ValueError(f"language {language!r} is not carried; choose one of {', '.join(self.languages())}")
        if split_by not in get_args(SplitBy):
            raise ValueError(f"split_by {split_by!r} is neither 'base' nor 'subgroup'")
        self.language = language
        self.split_by = split_by

    @staticmethod
    def languages() -> tuple[str, ...]:
        """The codes of the languages that are carried, English first.

        >>> "ja" in Emoji.languages()
        True
        """
        return tuple(_read("index.json.gz")["languages"])

    @property
    def towers(self) -> tuple[str, ...]:
        """The two towers of every record.

        >>> Emoji().towers
        ('image', 'text')
        """
        return ("image", "text")

    def __len__(self) -> int:
        return len(_read("index.json.gz")["keys"])

    def __iter__(self) -> Iterator[Record]:
        index = _read("index.json.gz")
        texts = _read(f"text-{self.language}.json.gz")
        subgroup_of = dict(zip(index["keys"], index["subgroups"], strict=True))
        for position, (key, base, (label, *tags)) in enumerate(zip(index["keys"], index["bases"], texts, strict=True)):
            yield Record(
                {"image": _picture(position), "text": f"{label}: {', '.join(tags)}"},
                id=key,
                group=base if self.split_by == "base" else subgroup_of[base],
                label=subgroup_of[key],
                extra={"emoji": "".join(chr(int(code, 16)) for code in key.split("-"))},
            )


@cache
def _read(name: str) -> Any:
    data = files("coembed_samples") / "data" / "emoji" / name
    return json.loads(gzip.decompress(data.read_bytes()))


@cache
def _sheet() -> Image.Image:
    with (files("coembed_samples") / "data" / "emoji" / "sheet.png").open("rb") as file:
        return Image.open(file).convert("RGB")


def _picture(position: int) -> Image.Image:
    index = _read("index.json.gz")
    size = index["size"]
    row, column = divmod(position, index["columns"])
    return _sheet().crop((column * size, row * size, (column + 1) * size, (row + 1) * size))
