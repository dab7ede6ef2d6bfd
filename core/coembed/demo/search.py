"""After training: write the space, its indexes and pictures, and ask it questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from coembed.demo import data
from coembed.demo.report import Shown
from coembed.embedding import similarity
from coembed.features import FeatureStore
from coembed.index import Index
from coembed.plugins import load
from coembed.space import Space

TEXTS = ("a red heart", "flag with a maple leaf", "birthday party", "bad weather", "laughing so hard it hurts")
INTENTS = ("split a path into directory and file name", "parse a date from a string", "compute the median of data")
K = 5


def save(space: Space, out: Path, store: FeatureStore) -> dict[str, Index]:
    """OUT/space with an index of every tower, and the emoji as PNG files that the index points to."""
    space.save(out / "space")
    everything = load("samples/emoji", "source")
    code = load("samples/stdlib", "source", name="kept")
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for record in everything:
        record["image"].save(pictures / f"{record.id}.png")
    shown = [{"path": str(Path("..", "pictures", f"{r.id}.png")), "text": r["text"]} for r in everything]
    words = [{"text": r["text"]} for r in everything] + [{"text": r["text"]} for r in code]
    bodies = [{"text": record["code"]} for record in code]
    names = {"image": [r.id for r in everything], "code": [r.id for r in code]}
    names["text"] = names["image"] + names["code"]
    items = {tower: [r[tower] for source in (everything, code) for r in source if tower in r] for tower in space}
    payloads: dict[str, Sequence[Any]] = {"image": shown, "text": words, "code": bodies}
    indexes = {}
    with space.cached(store):
        for tower in space:
            index = space.index(tower, items[tower], ids=names[tower], payloads=payloads[tower], progress=True)
            index.meta.update(space="..", tower=tower)
            index.save(out / "space" / "index" / tower)
            indexes[tower] = index
    return indexes


def ask(space: Space, indexes: dict[str, Index], out: Path) -> list[tuple[str, Shown, list[Shown]]]:
    """Example queries in several directions; pictures asked with are drawn here, so no data set holds them."""
    heart = drawing(out / "drawn-heart.png")
    asked = [("text", "image", Shown("text", text)) for text in TEXTS]
    asked += [("text", "code", Shown("text", text)) for text in INTENTS]
    asked += [
        ("image", "text", Shown("image", heart, "a drawn heart")),
        ("image", "image", Shown("image", heart, "a drawn heart")),
    ]
    calendar = out / "pictures" / "1f4c5.png"
    asked += [("image", "code", Shown("image", _opened(calendar), "calendar"))]  # a pair of towers that never trained
    asked += [("code", "text", Shown("code", "def f(xs):\n    return sorted(xs)[len(xs) // 2]"))]
    found = []
    for source, target, query in asked:
        hits = indexes[target].search(space.encode(source, [query.item]), k=K)[0]
        found.append((f"{source} to {target}", query, [_shown(target, hit, out) for hit in hits]))
    return found


def _shown(tower: str, hit: Any, out: Path) -> Shown:
    if tower == "image":
        caption = hit.payload["text"].rpartition(": ")[0]
        return Shown("image", _opened(out / "space" / hit.payload["path"]), caption, hit.score)
    return Shown(tower, hit.payload["text"], hit.id, hit.score)


def _opened(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.convert("RGB")


def drawing(path: Path) -> Any:
    """A heart drawn with shapes: a picture that is in no data set."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (128, 128), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((14, 22, 66, 74), fill="#d22")
    pen.ellipse((62, 22, 114, 74), fill="#d22")
    pen.polygon([(18, 60), (110, 60), (64, 116)], fill="#d22")
    picture.save(path)
    return picture


def heat(space: Space, held: data.Split, store: FeatureStore, count: int = 10) -> tuple[Tensor, list[Shown], list[str]]:
    """Similarities of some held-out pictures with their words."""
    records = list(next(iter(held.held.values())))
    chosen = records[:: max(1, len(records) // count)][:count]
    with space.cached(store):
        scores = similarity(
            space.encode("image", [r["image"] for r in chosen]), space.encode("text", [r["text"] for r in chosen])
        )
    return scores, [Shown("image", r["image"], r["text"]) for r in chosen], [r["text"] for r in chosen]
