"""Files that payloads name: only those in folders that the operator allowed, and pictures small enough to send."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coembed_serve.problems import Problem
from coembed_serve.settings import Settings

SENT = ("image/", "audio/")  # what a browser may show; anything else is only offered for download
WHOLE = 64 << 10  # bytes of a picture that is sent as it is
SIDES = (96, 256, 640)  # widths that pictures are made in; a few, so that they stay cached


class Media:
    """Finds the file behind a payload.

    A relative path is looked for where the server was started, in the space's folder, in the index's, and in the
    allowed folders. Links are followed first: what counts is where the file really lies.
    """

    def __init__(self, settings: Settings, space: Path) -> None:
        self.settings = settings
        self.allowed = tuple(folder.resolve() for folder in settings.media)
        self.space = space

    def file(self, payload: Any, index: Path) -> Path | None:
        """The file that a payload names, None if it names none, or it is not there or not allowed."""
        name = payload.get("path") if isinstance(payload, dict) else None
        if not isinstance(name, str) or not name or "\0" in name or not self.allowed:
            return None
        for base in (Path(), self.space, index, *self.allowed):
            try:
                path = (base / name).resolve(strict=True)
            except (OSError, RuntimeError):
                continue
            if path.is_file() and any(path.is_relative_to(folder) for folder in self.allowed):
                return path
        return None

    def withheld(self, payload: Any) -> bool:
        """Whether a payload names a file that may exist, but no folder is allowed to show it from."""
        return isinstance(payload, dict) and isinstance(payload.get("path"), str) and not self.allowed


def media_type(path: Path) -> str:
    """What a file is sent as.

    >>> media_type(Path("a.png")), media_type(Path("a.html"))
    ('image/png', 'application/octet-stream')
    """
    guessed = mimetypes.guess_type(path.name)[0] or ""
    return guessed if guessed.startswith(SENT) else "application/octet-stream"


def thumbnail(path: Path, side: int, pixels: int) -> tuple[bytes, str] | None:
    """A picture no wider than `side`, as JPEG or, with transparency, PNG; None to send the file as it is.

    Raises Problem for a picture of more than `pixels` pixels or one that can't be read.
    """
    if path.stat().st_size <= WHOLE or path.suffix.lower() == ".svg":
        return None
    try:
        from PIL import Image, ImageOps
    except ImportError:
        return None
    side = min((each for each in SIDES if each >= side), default=SIDES[-1])
    try:
        with Image.open(path) as opened:
            check_pixels(opened.size, pixels, path.name)
            opened.draft("RGB", (side * 2, side * 2))
            picture = ImageOps.exif_transpose(opened)
            picture.thumbnail((side, side))
            clear = picture.mode in ("RGBA", "LA", "P")
            buffer = io.BytesIO()
            picture.convert("RGBA" if clear else "RGB").save(buffer, "PNG" if clear else "JPEG", quality=85)
    except (OSError, ValueError, SyntaxError) as error:
        raise Problem(415, f"{path.name} can't be read as a picture: {error}", item=path.name) from error
    return buffer.getvalue(), "image/png" if clear else "image/jpeg"


def check_pixels(size: Sequence[int], most: int, name: str) -> None:
    """Raise Problem for a picture that would not fit into memory, before it is decoded."""
    if size[0] * size[1] > most:
        got = f"a picture of {size[0]} x {size[1]} pixels"
        raise Problem(413, f"{name}: {got}; at most {most:,} are read", item=name, got=got, expected=f"{most} pixels")
