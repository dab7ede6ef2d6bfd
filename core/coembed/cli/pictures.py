"""Pictures in a terminal: by the protocol that it speaks, else as coloured half blocks; none in a pipe."""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

ROWS = 10  # lines of text that a picture takes
_CELL = 20  # pixels of a line, about
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
_KITTY_CHUNK = 4096


def protocol(environ: Mapping[str, str]) -> str:
    """What a terminal shows pictures by, told from the environment: kitty, iterm, sixel or blocks.

    >>> protocol({"TERM": "xterm-kitty"}), protocol({"TERM_PROGRAM": "iTerm.app"}), protocol({"TERM": "xterm"})
    ('kitty', 'iterm', 'blocks')
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if "TMUX" in environ or term.startswith(("screen", "tmux")):
        return "blocks"  # which pass through
    if "KITTY_WINDOW_ID" in environ or "kitty" in term or "ghostty" in (term + program).lower():
        return "kitty"
    if program in ("iTerm.app", "WezTerm") or environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    if "sixel" in term or term.startswith(("foot", "mlterm", "contour")) or program == "mintty":
        return "sixel"
    return "blocks"


def shown(path: str) -> bool:
    """Whether a picture can be shown here: the output is a terminal, the file a picture, and Pillow installed."""
    from importlib.util import find_spec

    if not sys.stdout.isatty() or Path(path).suffix.lower() not in _SUFFIXES:
        return False
    return Path(path).is_file() and find_spec("PIL") is not None


def picture(path: str, environ: Mapping[str, str] = os.environ, rows: int = ROWS) -> str:
    """The characters that show a picture, `rows` lines high; empty for a file that Pillow can't read.

    Its first frame, upright, over white.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    flat = Image.new("RGBA", image.size, "white")
    flat.alpha_composite(image)
    how = protocol(environ)
    if how == "blocks":
        return "".join(line + "\n" for line in _blocks(flat.convert("RGB"), rows, environ))
    flat.thumbnail((rows * _CELL * 4, rows * _CELL))
    small = flat.convert("RGB")
    return {"kitty": _kitty, "iterm": _iterm, "sixel": _sixel}[how](small, rows) + "\n"


def _png(image: Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _kitty(image: Image, rows: int) -> str:
    """Kitty's graphics protocol: a PNG in chunks, placed over `rows` lines."""
    data = _png(image)
    parts = [data[i : i + _KITTY_CHUNK] for i in range(0, len(data), _KITTY_CHUNK)]
    head = f"a=T,f=100,r={rows},"
    return "".join(
        f"\x1b_G{head if not number else ''}m={int(number < len(parts) - 1)};{part}\x1b\\"
        for number, part in enumerate(parts)
    )


def _iterm(image: Image, rows: int) -> str:
    """ITerm's inline images."""
    return f"\x1b]1337;File=inline=1;height={rows};preserveAspectRatio=1:{_png(image)}\x07"


def _sixel(image: Image, rows: int) -> str:
    """Sixels: six lines of pixels at a time, one colour after another."""
    few = image.quantize(64)
    palette, (width, height), pixels = few.getpalette() or [], few.size, few.load()
    assert pixels is not None
    colours = [
        f"#{i};2;{';'.join(str(round(c * 100 / 255)) for c in palette[3 * i : 3 * i + 3])}"
        for i in range(len(palette) // 3)
    ]
    bands = []
    for top in range(0, height, 6):
        lines: dict[int, list[int]] = {}
        for x in range(width):
            for bit in range(min(6, height - top)):
                lines.setdefault(pixels[x, top + bit], [0] * width)[x] |= 1 << bit  # type: ignore[arg-type]
        bands.append("$".join(f"#{colour}" + "".join(chr(63 + v) for v in line) for colour, line in lines.items()))
    return f'\x1bPq"1;1;{width};{height}' + "".join(colours) + "-".join(bands) + "\x1b\\"


def _blocks(image: Image, rows: int, environ: Mapping[str, str]) -> Iterator[str]:
    """Upper half blocks: the colour of the letter above, that of its ground below."""
    true = environ.get("COLORTERM", "") in ("truecolor", "24bit")
    width = max(1, min(4 * rows, round(2 * rows * image.width / image.height)))
    small = image.resize((width, 2 * rows))
    pixels = small.load()
    assert pixels is not None
    for y in range(0, 2 * rows, 2):
        cells = (f"\x1b[38;{_colour(pixels[x, y], true)};48;{_colour(pixels[x, y + 1], true)}m▀" for x in range(width))
        yield "".join(cells) + "\x1b[0m"


def _colour(pixel: object, true: bool) -> str:
    """A colour in 24 bits, or the nearest of the 6 x 6 x 6 that most terminals have."""
    assert isinstance(pixel, tuple)
    if true:
        return "2;" + ";".join(map(str, pixel[:3]))
    red, green, blue = (round(part / 51) for part in pixel[:3])
    return f"5;{16 + 36 * red + 6 * green + blue}"
