"""Source files to text: encodings decided by rule, and errors that name the file."""

from __future__ import annotations

import io
import tokenize
from pathlib import Path

__all__ = ["CodeError", "decode", "read_text"]


class CodeError(ValueError):
    """A file or text that is no readable source code; the message names it, the place and the fix."""


def read_text(path: str | Path, python: bool = False) -> str:
    """The text of a source file with `\\n` line ends; `python` honours a PEP 263 encoding line.

    Raises CodeError naming the file if it is missing, a folder, empty, binary or wrongly encoded.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CodeError(f"{path}: {error.strerror or error}") from error
    text = decode(data, str(path), python)
    if not text.strip():
        raise CodeError(f"{path}: empty, it holds no code")
    return text


def decode(data: bytes, name: str, python: bool = False) -> str:
    """The bytes of a source file as text: UTF-8, with or without a byte order mark, `\\n` line ends.

    Raises CodeError naming `name` and the byte where decoding fails.

    >>> decode(b"\\xef\\xbb\\xbfx = 1\\r\\n", "a.py")
    'x = 1\\n'
    """
    if b"\0" in data:
        at = data.index(b"\0")
        raise CodeError(f"{name}: binary (a zero byte at {at}), not source code; UTF-16 text must become UTF-8 first")
    encoding = "utf-8-sig"
    if python:
        try:
            encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        except SyntaxError as error:
            if "coding" in data[:200].decode("ascii", "replace"):  # a coding line that Python does not know
                raise CodeError(f"{name}: {error.msg}; correct the coding line") from error
            # otherwise its bytes are no UTF-8, and the decoding below says where
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CodeError(
            f"{name}: not valid {error.encoding} (byte {error.start}, line {line}); convert the file to UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
