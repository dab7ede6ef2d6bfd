"""What a text item is: checking items, reading files, samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coembed.items import BadItem, describe

#: Valid items that differ from each other: plain, empty of letters, long, other scripts.
SAMPLES = (
    "A cat sits on the mat.",
    "Stock markets fell sharply on Tuesday.",
    "def area(radius): return 3.14159 * radius ** 2",
    "Größe, naïve café, 東京の天気, привет",
    "42",
    "The river rises in the hills, runs past three old mills and meets the sea at a wide and muddy bay.",
)


def checked(items: Sequence[Any], prompt: str = "") -> list[str]:
    """The items with their prompt, each a string of valid Unicode; raises BadItem.

    >>> checked(["cat"], prompt="query: ")
    ['query: cat']
    """
    for position, item in enumerate(items):
        if not isinstance(item, str):
            raise BadItem(position, describe(item), "a string")
        if not item.isascii():
            try:
                item.encode()
            except UnicodeEncodeError:
                raise BadItem(position, describe(item), "valid Unicode, without lone surrogates") from None
    return [prompt + item for item in items]


def read_file(path: Path) -> list[str]:
    """The whole file as one item, line ends as newlines; raises ValueError for what is not UTF-8 text.

    One file is one document: what lines or paragraphs mean is the caller's to say.
    """
    data = Path(path).read_bytes()
    if b"\0" in data:
        raise ValueError(f"{path}: a binary file (it holds a zero byte); text encoders read UTF-8 text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise ValueError(f"{path}: not UTF-8 text ({where}); convert it first") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        raise ValueError(f"{path}: holds no text")
    return [text]
