"""What is asked with, read as a tower reads it: a typed text, or an uploaded file in a temporary folder."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from coembed.encoder import Encoder
from coembed.items import BadItem
from coembed_serve.media import check_pixels
from coembed_serve.problems import Problem
from coembed_serve.settings import Settings


@dataclass(frozen=True)
class Read:
    """The item that is asked with, of how many in the file."""

    item: Any
    count: int


def takes_strings(encoder: Encoder) -> bool:
    """Whether items of this encoder are strings: it says so by its own samples."""
    return any(isinstance(item, str) for item in type(encoder).samples())


def typed(tower: str, encoder: Encoder, text: str, settings: Settings) -> str:
    """A typed item; raises Problem for a tower that takes files, and for nothing or too much."""
    if not takes_strings(encoder):
        got, expected = "a text", f"a file of modality {encoder.spec.modality}"
        raise Problem(422, f"tower {tower}: got {got}, expected {expected}", item="text", got=got, expected=expected)
    if not text.strip():
        raise Problem(422, "text: it is empty", item="text", got="nothing", expected="some letters")
    if len(text) > settings.text:
        got, expected = f"{len(text):,} letters", f"at most {settings.text:,}"
        raise Problem(413, f"text: got {got}, expected {expected}", item="text", got=got, expected=expected)
    return text


@asynccontextmanager
async def uploaded(
    encoder: Encoder, file: Any, name: str, number: int, settings: Settings, pool: Executor
) -> AsyncIterator[Read]:
    """Item `number` (from 1) of an uploaded file, which is there as long as the block: items may be its path.

    Raises Problem naming the file, what it was and what was expected.
    """
    folder = Path(tempfile.mkdtemp(prefix="coembed-serve-"))
    loop = asyncio.get_running_loop()
    try:
        # The client's name tells the kind by its ending alone; the rest of it never becomes a path.
        ending = "".join(c for c in PurePath(name.replace("\\", "/")).suffix if c.isalnum() or c == ".")[:12]
        path = folder / f"upload{ending}"
        yield await loop.run_in_executor(pool, _read, encoder, file, path, _label(name), number, settings)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(encoder: Encoder, file: Any, path: Path, name: str, number: int, settings: Settings) -> Read:
    with path.open("wb") as out:
        shutil.copyfileobj(file, out)

    def hide(text: str) -> str:
        return text.replace(str(path), name).replace(path.name, name)

    if not path.stat().st_size:
        raise Problem(422, f"{name}: the file is empty", item=name, got="an empty file", expected=_expected(encoder))
    try:
        _check_size(encoder.spec.modality, path, name, settings)
        items = encoder.read(path)
    except BadItem as error:
        raise bad_item(error, name, hide) from error
    except (ValueError, OSError) as error:
        text = hide(error.strerror if isinstance(error, OSError) and error.strerror else str(error))
        got = "a file that can't be read"
        raise Problem(422, f"{name}: {text}", item=name, got=got, expected=_expected(encoder)) from error
    if not 1 <= number <= len(items):
        expected = f"1 to {len(items)}" if items else _expected(encoder)
        raise Problem(422, f"{name}: it has {len(items)} items, not item {number}", item=name, expected=expected)
    return Read(items[number - 1], len(items))


def bad_item(error: BadItem, name: str, hide: Callable[[str], str] = str) -> Problem:
    """A fault of an item as a client is told of it."""
    got, expected = hide(error.got), hide(error.expected)
    return Problem(422, f"{name}: got {got}, expected {expected}", item=name, got=got, expected=expected)


def _check_size(modality: str, path: Path, name: str, settings: Settings) -> None:
    """A small file may hold a lot: refuse it by its head, before it is decoded."""
    if modality == "image":
        try:
            from PIL import Image, UnidentifiedImageError
        except ImportError:
            return
        try:
            with Image.open(path) as opened:
                check_pixels(opened.size, settings.pixels, name)
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
            return  # the encoder says better what is wrong with it
    elif modality == "audio":
        try:
            import soundfile
        except ImportError:
            return
        try:
            seconds = float(soundfile.info(str(path)).duration)
        except (RuntimeError, OSError, ValueError):
            return
        if seconds > settings.sound:
            got, expected = f"a sound of {seconds:,.0f} s", f"at most {settings.sound:,.0f} s"
            raise Problem(413, f"{name}: got {got}, expected {expected}", item=name, got=got, expected=expected)


def _label(name: str) -> str:
    """A client's file name as it may stand in a message."""
    last = PurePath(name.replace("\\", "/")).name
    return "".join(c for c in last if c.isprintable())[:80] or "the file"


def _expected(encoder: Encoder) -> str:
    return f"a file of modality {encoder.spec.modality}"
