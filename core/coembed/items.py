"""What items are: the error that names a bad one, and the bytes that stand for one in a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any


class BadItem(ValueError):
    """An item that an encoder can't take: where it was, what it was, what was expected.

    >>> str(BadItem(3, "an int", "a string"))
    'item 3: got an int, expected a string'
    """

    def __init__(self, position: int, got: str, expected: str) -> None:
        super().__init__(position, got, expected)  # the arguments, so that it survives pickling from a worker
        self.position, self.got, self.expected = position, got, expected

    def __str__(self) -> str:
        return f"item {self.position}: got {self.got}, expected {self.expected}"

    def at(self, position: int) -> BadItem:
        """The same fault at another position: a batch's row becomes the row of the whole list."""
        moved = BadItem(position, self.got, self.expected)
        moved.__cause__ = self.__cause__
        return moved


def describe(item: object, most: int = 60) -> str:
    """A short phrase for an item in an error message.

    >>> describe(3), describe("abc")
    ("int 3", "str 'abc'")
    """
    text = repr(item)
    return f"{type(item).__name__} {text if len(text) <= most else text[: most - 1] + '…'}"


def content_key(item: Any) -> bytes:
    """A digest of an item's content: equal content, equal key, across runs and machines.

    Takes None, strings, bytes, numbers, paths (the file's bytes), lists, mappings, and anything with an array interface
    (NumPy, PIL images, CPU tensors). Raises TypeError for anything else: an encoder of such items overrides `key`.

    >>> content_key("a") == content_key("a") != content_key(b"a")
    True
    """
    if type(item) is str:  # a million of them: in one call what `_feed` does in ten
        content = encode_basestring_ascii(item).encode()
        return hashlib.blake2b(b"str:%d:%b" % (len(content), content), digest_size=16).digest()
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, item)
    return digest.digest()


def _feed(digest: hashlib.blake2b, item: Any) -> None:
    if item is None or isinstance(item, (str, int, float, bool)):
        _tagged(digest, type(item).__name__, json.dumps(item).encode())
    elif isinstance(item, (bytes, bytearray)):
        _tagged(digest, "bytes", bytes(item))
    elif isinstance(item, Path):
        _tagged(digest, "file", item.read_bytes())
    elif isinstance(item, Mapping):
        _tagged(digest, "map", str(len(item)).encode())
        for key in sorted(item, key=str):
            _feed(digest, str(key))
            _feed(digest, item[key])
    elif isinstance(item, (list, tuple)):
        _tagged(digest, "list", str(len(item)).encode())
        for part in item:
            _feed(digest, part)
    elif hasattr(item, "__array_interface__") or hasattr(item, "__array__"):
        import numpy as np

        array = np.ascontiguousarray(item)
        mode = getattr(item, "mode", None)  # a palette image and a grey one may share their bytes
        kind = f"{array.dtype.str} {array.shape} {mode if isinstance(mode, str) else ''}"
        _tagged(digest, f"array {kind}", array.tobytes())
    else:
        raise TypeError(f"no content key for {describe(item)}: the encoder of such items must override key()")


def _tagged(digest: hashlib.blake2b, tag: str, content: bytes) -> None:
    """Length-prefixed, so that no two different items feed the same bytes."""
    digest.update(f"{tag}:{len(content)}:".encode())
    digest.update(content)
