"""`samples/icons`: icons of two open collections beside their search terms."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from coembed.sources import Record, Source
from coembed_samples import fetch

# Frames around another picture, and words that say how it is drawn; "circle" alone is an icon too.
_FRAMES = {"square", "circle", "octagon", "hexagon", "badge", "round", "dashed"}


class Icon(NamedTuple):
    """One icon: collection and name, label and terms, and the file of its drawing."""

    id: str
    name: str
    text: str
    svg: Path


class Icons(Source):
    """Icons as `image` (PIL, RGB, `size` pixels square, black on white) and `text`: the name and its search terms.

    1,908 line icons of Lucide and 1,422 solid ones of Font Awesome Free, with `brands` its 515 tagged logos too. `text`
    is "heart: like, love, emotion". `group` is the first word of the name that names no frame, one for both
    collections: "square-heart", "heart-plus" and the other collection's "heart" stay together. `label` is the name, so
    that an icon that both have is right for either's words. Pictures are drawn when they are asked for.

    Fetch them with `coembed-samples fetch icons`, or give their `folder`. Needs `pip install 'coembed-samples[icons]'`.
    Raises ImportError without resvg-py, NotFetched naming the command, ValueError for a size below 8.
    """

    def __init__(self, *, size: int = 64, brands: bool = False, folder: Path | str | None = None) -> None:
        if size < 8:
            raise ValueError(f"size={size} pixels are too few to draw on: at least 8")
        try:
            import resvg_py
        except ImportError as error:
            raise ImportError(
                f"samples/icons needs resvg-py to draw ({error}): pip install 'coembed-samples[icons]'"
            ) from error
        assert resvg_py
        self.size, self.brands = size, brands
        self.folder = Path(folder) if folder is not None else fetch.folder("icons")

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """Three made-up icons in the files of both collections."""
        for name in ("lucide", "fontawesome/solid"):
            (folder / name).mkdir(parents=True)
        tags = {"disc": ["round", "full"], "square-disc": ["framed"], "untagged": []}
        (folder / "lucide" / "tags.json").write_text(json.dumps(tags), "utf-8")
        for name, radius in (("disc", 9), ("square-disc", 4), ("untagged", 1)):
            drawing = f'<circle cx="12" cy="12" r="{radius}" fill="none" stroke="currentColor"/>'
            svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">{drawing}</svg>'
            (folder / "lucide" / f"{name}.svg").write_text(svg, "utf-8")
        raw = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 4"><path d="M0 0h8v4H0z"/></svg>'
        (folder / "fontawesome" / "solid" / "bar.svg").write_text(raw, "utf-8")
        bar = {"label": "Bar", "search": {"terms": ["wide", "flat"]}}
        (folder / "fontawesome" / "icon-families.json").write_text(json.dumps({"bar": bar}), "utf-8")
        return cls(size=16, folder=folder)

    @property
    def towers(self) -> tuple[str, ...]:
        """The two towers of every record, image and text."""
        return ("image", "text")

    def __len__(self) -> int:
        return len(_icons(self.folder, self.brands))

    def __iter__(self) -> Iterator[Record]:
        for icon in _icons(self.folder, self.brands):
            yield Record(_Items(icon, self.size), id=icon.id, group=base(icon.name), label=icon.name)


class _Items(Mapping[str, Any]):
    """An icon's two items; the picture is drawn when it is looked up."""

    def __init__(self, icon: Icon, size: int) -> None:
        self.icon, self.size = icon, size

    def __getitem__(self, tower: str) -> Any:
        if tower == "text":
            return self.icon.text
        if tower == "image":
            return draw(self.icon.svg.read_text("utf-8"), self.size)
        raise KeyError(tower)

    def __contains__(self, tower: object) -> bool:
        return tower in ("image", "text")  # Mapping's own would draw to find out

    def __iter__(self) -> Iterator[str]:
        return iter(("image", "text"))

    def __len__(self) -> int:
        return 2


def base(name: str) -> str:
    """What an icon is a variant of: the first word of its name that is no frame, in the singular.

    >>> base("square-heart"), base("heart-plus"), base("users-gear"), base("circle-check"), base("circle")
    ('heart', 'heart', 'user', 'check', 'circle')
    """
    words = name.split("-")
    word = next((word for word in words if word not in _FRAMES), words[0])
    return re.sub(r"(?<=[a-z]{3}[^s])s$", "", word)


def draw(svg: str, size: int) -> Any:
    """An SVG drawing as a PIL image of `size` by `size` pixels, black on white, in the middle if it is not square."""
    import resvg_py
    from PIL import Image

    png = resvg_py.svg_to_bytes(svg_string=svg, width=4 * size, skip_system_fonts=True)  # drawn large, then reduced
    with Image.open(io.BytesIO(bytes(png))) as file:
        drawn = file.convert("RGBA")
    drawn.thumbnail((size, size), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (size, size), "white")
    canvas.alpha_composite(drawn, ((size - drawn.width) // 2, (size - drawn.height) // 2))
    return canvas.convert("RGB")


@lru_cache(maxsize=4)
def _icons(folder: Path, brands: bool) -> tuple[Icon, ...]:
    """The tagged icons of a folder, Lucide's first."""
    found = []
    tags = json.loads((folder / "lucide" / "tags.json").read_text("utf-8"))
    for name, terms in sorted(tags.items()):
        path = folder / "lucide" / f"{name}.svg"
        if terms and path.is_file():
            found.append(Icon(f"lucide/{name}", name, _text(name.replace("-", " "), terms), path))
    families = json.loads((folder / "fontawesome" / "icon-families.json").read_text("utf-8"))
    for name, facts in sorted(families.items()):
        terms = facts["search"]["terms"]
        for style in ("solid", *(["brands"] if brands else [])):
            path = folder / "fontawesome" / style / f"{name}.svg"
            if terms and path.is_file():
                found.append(Icon(f"fontawesome/{name}", name, _text(facts["label"], terms), path))
                break
    return tuple(found)


def _text(label: str, terms: list[Any]) -> str:
    words = [str(term) for term in terms if str(term).lower() != label.lower()]
    return f"{label.lower()}: {', '.join(words)}" if words else label.lower()
