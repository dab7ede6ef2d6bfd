"""Build the carried emoji data from two unpacked npm packages, or check that the carried data is what they give.

    npm pack emoji-datasource-google@16.0.0 emojibase-data@17.0.0
    mkdir art words
    tar xzf emoji-datasource-google-16.0.0.tgz -C art --strip-components=1
    tar xzf emojibase-data-17.0.0.tgz -C words --strip-components=1
    python tools/build_emoji.py art words            # writes coembed_samples/data/emoji
    python tools/build_emoji.py art words --check    # compares contents, writes nothing

Only Google's own pictures (Noto) are read; the art package's entries that lack one are left out.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from emoji_families import Sign, families
from PIL import Image

ART = ("emoji-datasource-google", "16.0.0")
WORDS = ("emojibase-data", "17.0.0")
LANGUAGES = ("en", "de", "es", "fr", "it", "ja", "ko", "pt", "ru", "zh")
SIZE = 32
COLUMNS = 44
TARGET = Path(__file__).resolve().parent.parent / "coembed_samples" / "data" / "emoji"


def key_of(hexcode: str) -> str:
    """The hexcode in lower case without the emoji presentation selectors, which the two packages set differently."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def check_package(folder: Path, expected: tuple[str, str]) -> None:
    found = read_json(folder / "package.json")
    if (found["name"], found["version"]) != expected:
        raise SystemExit(f"{folder} holds {found['name']} {found['version']}; unpack {expected[0]} {expected[1]} there")


def picture(path: Path) -> Image.Image:
    """The picture on white, 32 px square."""
    art = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", art.size, "white")
    return Image.alpha_composite(white, art).convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def packed(value: Any) -> bytes:
    """JSON, gzipped without a time stamp: the same value always gives the same bytes."""
    return gzip.compress(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), 9, mtime=0)


def build(art: Path, words: Path) -> dict[str, bytes]:
    """The carried files, name to bytes."""
    check_package(art, ART)
    check_package(words, WORDS)
    files = {key_of(e["unified"]): e["image"] for e in read_json(art / "emoji.json") if e["has_img_google"]}
    subgroups = read_json(words / "meta" / "groups.json")["subgroups"]
    english = [e for e in read_json(words / "en" / "data.json") if key_of(e["hexcode"]) in files]
    pictures = [picture(art / "img" / "google" / "64" / files[key_of(e["hexcode"])]) for e in english]
    signs = [
        Sign(key_of(e["hexcode"]), e["label"], e["tags"], subgroups[str(e["subgroup"])], np.asarray(p))
        for e, p in zip(english, pictures, strict=True)
    ]

    sheet = Image.new("RGB", (COLUMNS * SIZE, -(-len(signs) // COLUMNS) * SIZE), "white")
    for i, tile in enumerate(pictures):
        sheet.paste(tile, (i % COLUMNS * SIZE, i // COLUMNS * SIZE))
    png = io.BytesIO()
    # One palette for the whole sheet, refined by k-means; dithering would only add noise at this size.
    sheet.quantize(256, kmeans=1, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)

    index = {
        "pictures": list(ART),
        "texts": list(WORDS),
        "size": SIZE,
        "columns": COLUMNS,
        "languages": list(LANGUAGES),
        "keys": [sign.key for sign in signs],
        "subgroups": [sign.subgroup for sign in signs],
        "bases": families(signs),
    }
    out = {"sheet.png": png.getvalue(), "index.json.gz": packed(index)}
    for language in LANGUAGES:
        entries = {key_of(e["hexcode"]): e for e in read_json(words / language / "data.json")}
        # [[label, tag, tag, ...], ...] in the order of the keys
        out[f"text-{language}.json.gz"] = packed([[entries[s.key]["label"], *entries[s.key]["tags"]] for s in signs])
    return out


def differences(built: dict[str, bytes]) -> list[str]:
    """The carried files whose contents (pixels, JSON values) are not what was built."""

    def contents(name: str, data: bytes) -> bytes:
        return Image.open(io.BytesIO(data)).convert("RGB").tobytes() if name.endswith(".png") else gzip.decompress(data)

    return [
        name
        for name, data in built.items()
        if not (TARGET / name).exists() or contents(name, (TARGET / name).read_bytes()) != contents(name, data)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build or check the carried emoji data.")
    parser.add_argument("art", type=Path, help="the unpacked emoji-datasource-google")
    parser.add_argument("words", type=Path, help="the unpacked emojibase-data")
    parser.add_argument("--check", action="store_true", help="compare with the carried files and write nothing")
    options = parser.parse_args()
    built = build(options.art, options.words)
    if options.check:
        wrong = differences(built)
        sys.exit(f"not what the packages give: {', '.join(wrong)}" if wrong else 0)
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, data in built.items():
        (TARGET / name).write_bytes(data)
        print(f"{name:20} {len(data):8,} bytes")


if __name__ == "__main__":
    main()
