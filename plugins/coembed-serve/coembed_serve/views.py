"""Items as a person sees or hears them, as HTML for the page: by their kind, from their payload or their file."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

from coembed.demo import draw
from coembed.encoder import Encoder
from coembed_serve import graphs
from coembed_serve.problems import Problem
from coembed_serve.settings import Settings

LETTERS = 2000  # of a text or of code that a card shows
SHORT = 90  # of a caption
WHOLE = 8 << 20  # bytes of a file that is read to show one of its items
PYTHON = PythonLexer()  # made here: pygments replaces its own modules as they load, which threads must not do at once
_NUMBERED = re.compile(r"#(\d+)$")  # `coembed index` names the items of a file path#1, path#2, …
NEED_FILE = ("audio", "graph", "dna", "protein", "code", "text")


def caption(name: str, payload: Any) -> str:
    """What an item is called: its name, else the beginning of its text, else its id.

    >>> caption("p/1.png", {"name": "a red heart"}), caption("1", {"text": "some words"}), caption("p/1.png", None)
    ('a red heart', 'some words', 'p/1.png')
    """
    if isinstance(payload, str):
        payload = {"text": payload}
    for key in ("name", "title", "caption", "text"):
        said = payload.get(key) if isinstance(payload, Mapping) else None
        if isinstance(said, str) and said.strip():
            words = " ".join(said.split())
            return words if len(words) <= SHORT else words[: SHORT - 1] + "…"
    return name


def view(kind: str, tower: str, payload: Any) -> str | None:
    """HTML of an item whose content is in its payload; None where that is in a file, or nowhere."""
    content = payload if isinstance(payload, str) else None
    if isinstance(payload, Mapping):
        content = next((payload[key] for key in (tower, kind, "text") if payload.get(key)), None)
    if kind == "graph":
        return graphs.drawing(content) if isinstance(content, Mapping) else None
    if not isinstance(content, str) or kind in ("image", "audio"):
        return None
    path = payload.get("path") if isinstance(payload, Mapping) else None
    return _written(kind, content, path if isinstance(path, str) else "")


def picture(title: str, address: str) -> str:
    """HTML of a picture at an address of ours.

    >>> picture("a <b>", "api/media/image?id=1")
    '<img src="api/media/image?id=1&amp;side=256" alt="a &lt;b&gt;" loading="lazy">'
    """
    source = html.escape(f"{address}&side=256", quote=True)
    return f'<img src="{source}" alt="{html.escape(title, quote=True)}" loading="lazy">'


def file_view(kind: str, name: str, file: Path, encoder: Encoder, address: str, settings: Settings) -> str:
    """HTML of an item that is in a file; `address` is where the page gets the file itself.

    Raises Problem for a file that is too large to look into, or can't be read.
    """
    if kind == "image":
        return picture(name, address)
    if kind == "audio":
        return _sound(file, address, settings)
    if file.stat().st_size > WHOLE:
        raise Problem(413, f"{file.name} is too large to show one of its items", item=name)
    found = _NUMBERED.search(name)
    number = int(found[1]) if found else 1
    try:
        items = encoder.read(file)
        item = items[number - 1]
    except (ValueError, OSError, IndexError) as error:
        raise Problem(422, f"{file.name}: it can't be read any more: {error}", item=name) from error
    if kind == "graph":
        return graphs.drawing(item)
    return _written(kind, item if isinstance(item, str) else str(item), file.name)


def _written(kind: str, text: str, path: str) -> str:
    if kind in ("dna", "protein"):
        return draw.sequence("".join(text.split()), kind)
    cut = text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"
    if kind == "code":
        return f'<pre class="code" tabindex="0"><code>{_highlighted(cut, path)}</code></pre>'
    return f'<p class="text">{html.escape(cut)}</p>'


def _highlighted(text: str, path: str) -> str:
    try:
        lexer = get_lexer_for_filename(path.rpartition("#")[0] or path)
    except ClassNotFound:
        lexer = PYTHON  # a name tells nothing: colours of another language do no harm
    return str(highlight(text, lexer, HtmlFormatter(nowrap=True)))


def _sound(file: Path, address: str, settings: Settings) -> str:
    """An outline, where the file can be decoded here, and a player of the file itself."""
    source = html.escape(address, quote=True)
    try:
        import soundfile

        info = soundfile.info(str(file))
        if info.duration > settings.sound:
            raise Problem(413, f"{file.name}: a sound of {info.duration:,.0f} s is not drawn", item=file.name)
        outline = _outline(soundfile, file)
    except (ImportError, RuntimeError, OSError, ValueError):
        return f'<audio controls preload="none" src="{source}"></audio>'
    return re.sub(r'src="data:[^"]*"', lambda found: f'src="{source}"', draw.sound(outline, 8000))


def _outline(soundfile: Any, file: Path, columns: int = 220) -> Any:
    """The largest amplitude `[220]` of each part of a sound, read a block at a time."""
    import numpy as np

    with soundfile.SoundFile(str(file)) as opened:
        size = max(1, -(-opened.frames // columns))
        blocks = opened.blocks(blocksize=size, dtype="float32", always_2d=True)
        peaks = [float(np.abs(block.mean(axis=1)).max(initial=0.0)) for block in blocks]
    return np.array(peaks[:columns] or [0.0], dtype=np.float32)


def plain(payload: Any, most: int = 2000) -> Any:
    """A payload as the API gives it: whole, or marked where it would be very long.

    >>> plain({"text": "x" * 5000})["cut"]
    True
    """
    text = json.dumps(payload, ensure_ascii=False)
    return payload if len(text) <= most else {"cut": True, "json": text[:most]}
