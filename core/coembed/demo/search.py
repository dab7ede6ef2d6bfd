"""After training: write the space, an index of every tower with what it points to, and ask questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from coembed.demo.data import EMOJI, FUNCTIONS, GENES, HIDDEN, SOUNDS, Split
from coembed.demo.draw import Shown, wav
from coembed.demo.report import Query
from coembed.embedding import similarity
from coembed.features import FeatureStore
from coembed.index import Hit, Index
from coembed.plugins import load
from coembed.sources import Record, Records
from coembed.space import Space

K = 5
# From one tower to another, by words or by the place of a record among those that were held out.
WORDS = (
    ("image", "a red heart"),
    ("image", "laughing so hard it hurts"),
    ("code", "split a path into directory and file name"),
    ("graph", "compute the median of data"),
    ("audio", "cymbal"),
    ("protein", "ribosomal protein"),
    ("dna", "photosystem II protein"),
)
HELD = (
    ("dna", "protein", GENES),
    ("protein", "text", GENES),
    ("dna", "text", GENES),
    ("audio", "text", SOUNDS),
    ("graph", "text", FUNCTIONS),
    ("code", "graph", FUNCTIONS),
)
EVERYWHERE = ("cymbal", "a subunit of a machine that makes proteins", "what is the time")
READABLE = 60  # nodes of a tree that a person can still read


@dataclass(frozen=True)
class Library:
    """The indexes by tower, and the very items that they hold, by tower and id."""

    indexes: Mapping[str, Index]
    items: Mapping[str, Mapping[str, Any]]
    out: Path

    def shown(self, tower: str, hit: Hit) -> Shown:
        """A hit as a person sees it."""
        caption = hit.payload.get("name", "")
        return Shown(tower, self.items[tower][hit.id], caption, hit.score)


def save(space: Space, splits: Sequence[Split], out: Path, store: FeatureStore) -> Library:
    """OUT/space with an index of every tower; pictures and sounds as files beside it, which their indexes point to."""
    space.save(out / "space")
    items: dict[str, dict[str, Any]] = {tower: {} for tower in space}
    payloads: dict[str, list[Any]] = {tower: [] for tower in space}
    for split in splits:
        tests = [held for name, held in split.held.items() if name != HIDDEN]
        for record in (record for part in (split.train, *tests) for record in part):
            for tower in (tower for tower in space if tower in record):
                items[tower][record.id] = record[tower]
                payloads[tower].append(_payload(tower, record, out))
    indexes = {}
    with space.cached(store):
        for tower in space:
            ids = list(items[tower])
            index = space.index(tower, [items[tower][i] for i in ids], ids=ids, payloads=payloads[tower], progress=True)
            index.meta.update(space="..", tower=tower)
            index.save(out / "space" / "index" / tower)
            indexes[tower] = index
    return Library(indexes, items, out)


def _payload(tower: str, record: Record, out: Path) -> dict[str, Any]:
    """What a hit shows: words, and for pictures and sounds the file, which is written here."""
    name = record["text"].partition(": ")[0]
    if tower in ("image", "audio"):
        folder, suffix = ("pictures", "png") if tower == "image" else ("sounds", "wav")
        path = out / folder / f"{record.id}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if tower == "image":
            record["image"].save(path)
        else:
            path.write_bytes(wav(*record["audio"]))
        return {"path": str(Path("..", folder, path.name)), "name": name}
    if tower == "text":
        return {"text": record["text"]}
    if tower == "code":
        return {"text": record["code"], "name": record.id}
    return {"name": f"{record.group}: {record['text']}" if "dna" in record else record["text"], tower: record[tower]}


def ask(space: Space, library: Library, splits: Sequence[Split]) -> list[Query]:
    """Queries from one tower to another; pictures asked with are drawn here, items of other kinds were held out."""
    held = {name: records for split in splits for name, records in split.held.items()}
    heart = Shown("image", drawing(library.out / "drawn-heart.png"), "a drawn heart")
    asked = [("text", tower, Shown("text", text)) for tower, text in WORDS]
    asked += [("image", "text", heart), ("image", "image", heart)]
    for source, target, name in HELD:
        record = example(held[name])
        asked.append((source, target, Shown(source, record[source], record["text"])))
    asked.append(("code", "text", Shown("code", "def f(xs):\n    return sorted(xs)[len(xs) // 2]")))
    drum = load("samples/emoji", "source")
    asked += [("image", "audio", Shown("image", r["image"], "drum")) for r in drum if r["text"].startswith("drum:")]
    found = []
    for source, target, query in asked:
        hits = library.indexes[target].search(space.encode(source, [query.item]), k=K)[0]
        found.append(Query(f"{source} to {target}", query, [library.shown(target, hit) for hit in hits]))
    return found


def example(records: Records) -> Record:
    """A held-out record whose tree, if it has one, is small enough to read."""
    return next((r for r in records if "graph" not in r or 20 < len(r["graph"]["nodes"]) < READABLE), records[0])


def everywhere(space: Space, library: Library) -> list[Query]:
    """Texts asked of every tower at once: the best two of each, by how far the best stands out among its own kind."""
    found = []
    for text in EVERYWHERE:
        query, best = space.encode("text", [text]), []
        for tower, index in library.indexes.items():
            if tower == "text":
                continue
            hits = index.search(query, k=len(index))[0]
            mean = sum(hit.score for hit in hits) / len(hits)
            spread = (sum((hit.score - mean) ** 2 for hit in hits) / len(hits)) ** 0.5 or 1.0
            shown = [library.shown(tower, hit) for hit in hits[:2]]
            out = (hits[0].score - mean) / spread
            best.append((out, [Shown(s.kind, s.item, f"({out:.1f}) {tower}: {s.caption}", s.score) for s in shown]))
        best.sort(key=lambda pair: pair[0], reverse=True)
        found.append(Query("text to all", Shown("text", text), [shown for _, two in best for shown in two]))
    return found


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


def heat(
    space: Space, splits: Sequence[Split], store: FeatureStore, count: int = 10
) -> tuple[Tensor, list[Shown], list[str]]:
    """Similarities of some held-out pictures with their words."""
    records = list(next(split.held[EMOJI] for split in splits if EMOJI in split.held))
    chosen = records[:: max(1, len(records) // count)][:count]
    with space.cached(store):
        scores = similarity(
            space.encode("image", [r["image"] for r in chosen]), space.encode("text", [r["text"] for r in chosen])
        )
    return scores, [Shown("image", r["image"], r["text"]) for r in chosen], [r["text"] for r in chosen]
