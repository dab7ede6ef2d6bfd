"""What the recipes of models of several sizes share: small text and code towers, trained alike, on a grid of sizes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any

import coembed
from coembed import Embedding, Encoder, Objective, Source, Space, Tower
from coembed.evaluation import evaluate
from coembed.nn import seeded
from coembed.plugins import CoembedWarning

LAYERS, DIM = 4, 64
Size = tuple[int, int]  # (layer, width)


@cache
def pairs(few: int | None = None) -> tuple[Source, Source]:
    """Docstrings and functions of the standard library, to train on and held out by module."""
    from coembed_samples.stdlib import Stdlib

    train, held = Stdlib(name="kept").split(held_out=0.2, seed=0)
    return (train, held) if few is None else (coembed.Records(list(train)[:few]), coembed.Records(list(held)[:few]))


def encoder(source: Source, seed: int, *, layers: int = LAYERS, dim: int = DIM) -> Encoder:
    """A post-norm transformer over subwords of the training half; the mean of its tokens is the vector."""
    made: Encoder = coembed.load(
        "text/transformer", tokenizer="bpe:2048", dim=dim, ff=2 * dim, layers=layers, heads=2, dropout=0.0,
        max_length=32, norm="post", seed=seed,
    )  # fmt: skip
    fit_tokenizer: Any = made.fit_tokenizer
    fit_tokenizer(text for record in source for text in record.items.values())
    return made


def trained(encoder: Encoder, source: Source, objective: str | Objective, steps: int, seed: int) -> Space:
    """One encoder for texts and code, so that a step trains every layer from both sides."""
    space = Space({name: Tower(encoder, "identity", train="all") for name in ("text", "code")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoembedWarning)  # long functions are cut
        coembed.fit(space, source, objective=objective, steps=steps, batch_size=64, lr=3e-3, seed=seed, cache=False)
    return space


def pretrained(encoder: Encoder, source: Source, sizes: Sequence[Size], steps: int, seed: int, *, decode: bool) -> None:
    """The encoder learns from texts and code alike, by Starbucks' masked auto-encoding or, without it, masked words."""
    from coembed_pretrain.smae import SMAE

    items = [text for record in source for text in record.items.values()]
    space = Space({"item": Tower(encoder, "identity", train="all")})
    with warnings.catch_warnings(), seeded(seed):
        warnings.simplefilter("ignore", CoembedWarning)
        task = SMAE(coembed.Records.pairs(item=items), "item", sizes, decode=decode)
        coembed.fit(space, tasks=[task], steps=steps, batch_size=64, lr=3e-3, seed=seed, cache=False)


def recalls(space: Space, held: Source, sizes: Iterable[Size]) -> dict[Size, float]:
    """R@10 from text to code at each size, whether it was trained for it or not."""
    found, rows = {}, dict[tuple[str, int], Embedding]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoembedWarning)
        for layer, dim in sizes:
            at = _At(space, layer, dim, rows)
            found[layer, dim] = float(evaluate(at, held, pairs=[("text", "code")], ks=(10,))["text->code"]["R@10"])
    return found


@dataclass
class _At:
    """A space at one size; a layer is encoded once for all widths."""

    space: Space
    layer: int
    dim: int
    rows: dict[tuple[str, int], Embedding] = field(repr=False)

    def encode(self, tower: str, items: Sequence[Any], *, batch_size: int = 32, progress: bool = False) -> Embedding:
        if (tower, self.layer) not in self.rows:
            self.rows[tower, self.layer] = self.space.encode(tower, items, layer=self.layer, batch_size=128)
        return self.rows[tower, self.layer].truncate(self.dim, force=True)


def drawn(
    title: str, grids: Mapping[str, Sequence[Sequence[float]]], layers: Sequence[int], dims: Sequence[int]
) -> str:
    """Grids of figures by name, rows are layers and columns widths, as one SVG: the darker, the higher.

    >>> drawn("R@10", {"plain": [[0.1, 0.5]]}, [1], [8, 16]).count("<rect")
    3
    """
    top = max(value for grid in grids.values() for row in grid for value in row) or 1.0
    side, left, high = 44, 30, 60
    each = side * len(dims) + left
    parts = [f'<text x="8" y="18" font-size="14">{escape(title)}</text>']
    for at, (name, grid) in enumerate(grids.items()):
        x, y = 8 + at * each, high
        parts.append(f'<text x="{x + left}" y="{y - 20}">{escape(name)}</text>')
        parts += [f'<text x="{x + left + side * i + 8}" y="{y - 5}">{dim}</text>' for i, dim in enumerate(dims)]
        for row, (layer, values) in enumerate(zip(layers, grid, strict=True)):
            parts.append(f'<text x="{x + 12}" y="{y + side * row + 27}">{layer}</text>')
            for column, value in enumerate(values):
                place = f'x="{x + left + side * column}" y="{y + side * row}"'
                shade = f'fill="#2563eb" fill-opacity="{0.05 + 0.8 * value / top:.2f}"'
                parts.append(f'<rect {place} width="{side - 2}" height="{side - 2}" {shade}/>')
                where = f'x="{x + left + side * column + 6}" y="{y + side * row + 27}"'
                parts.append(f"<text {where}>{value:.3f}</text>")
    width, height = 16 + each * len(grids), high + side * len(layers) + 8
    body = f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="sans-serif" font-size="12">{body}</svg>\n'
    )
