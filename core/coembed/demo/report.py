"""report.html: queries with their results as pictures and code, the loss curve, a heat map, the table. One file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from coembed.demo.table import HEAD, Row, cells

STYLE = """
:root { color-scheme: light dark; --line: #8884; --ink: #2563eb; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
td, th { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
.scroll { overflow-x: auto; }
.query { border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; margin: 1rem 0; }
.asked { display: flex; gap: .8rem; align-items: center; font-weight: 600; }
.hits { display: flex; flex-wrap: wrap; gap: .8rem; margin-top: .6rem; }
.hit { max-width: 30rem; } .hit small { display: block; opacity: .75; }
img { width: 64px; height: 64px; image-rendering: pixelated; background: #fff; border-radius: .3rem; }
pre { background: #8881; padding: .5rem; border-radius: .3rem; overflow-x: auto; font-size: .75rem; max-height: 12rem; }
svg { max-width: 100%; height: auto; }
"""


@dataclass(frozen=True)
class Shown:
    """An item as a person sees it: a picture, a text or code, with a caption and a score."""

    kind: str
    item: Any
    caption: str = ""
    score: float | None = None


def write(
    path: Path,
    rows: Sequence[Row],
    verdicts: Sequence[str],
    queries: Sequence[tuple[str, Shown, Sequence[Shown]]],
    losses: Sequence[float],
    heat: tuple[Tensor, list[Shown], list[str]],
) -> None:
    """Write the report; `queries` are (direction, what was asked, what was found), `heat` scores [n, m] with labels."""
    body = [
        "<h1>coembed demo: pictures, words and code in one space</h1>",
        "<h2>Held-out figures</h2>",
        "<p>Means over seeds, lowest and highest in brackets; the last three columns are R@10 / MRR.</p>",
        _table(rows),
        "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in verdicts) + "</ul>",
        "<h2>Queries and what they found</h2>",
        *(_query(*query) for query in queries),
        "<h2>Loss</h2>",
        _curve(losses),
        "<h2>Similarity of held-out pictures and words</h2>",
        _heat(*heat),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>coembed demo</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>"
    )
    path.write_text(page, encoding="utf-8")


def _table(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEAD)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{lines}</table></div>'


def _item(shown: Shown) -> str:
    if shown.kind == "image":
        return f'<img src="{_data(shown.item)}" alt="{html.escape(shown.caption or "the query picture", quote=True)}">'
    if shown.kind == "code":
        return f"<pre>{html.escape(shown.item)}</pre>"
    return f"<span>{html.escape(shown.item)}</span>"


def _data(picture: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _query(direction: str, asked: Shown, found: Sequence[Shown]) -> str:
    hits = "".join(
        f'<div class="hit">{_item(hit)}<small>{hit.score:.3f} {html.escape(hit.caption)}</small></div>' for hit in found
    )
    label = f"<small>{html.escape(direction)}</small>"
    return f'<div class="query"><div class="asked">{_item(asked)}{label}</div><div class="hits">{hits}</div></div>'


def _curve(losses: Sequence[float], width: int = 640, height: int = 200) -> str:
    """The loss of every step, smoothed a little, as a line; linear axes."""
    if len(losses) < 2:
        return "<p>Too few steps for a curve.</p>"
    window = max(1, len(losses) // 60)
    smooth = [
        sum(losses[max(0, i - window) : i + 1]) / len(losses[max(0, i - window) : i + 1]) for i in range(len(losses))
    ]
    top = max(smooth)
    points = " ".join(
        f"{40 + i / (len(smooth) - 1) * (width - 50):.1f},{height - 25 - value / top * (height - 40):.1f}"
        for i, value in enumerate(smooth)
    )
    text = 'font-size="12" fill="currentColor"'
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="loss from {losses[0]:.2f} to {losses[-1]:.2f} over {len(losses)} steps">'
        f'<polyline points="{points}" fill="none" stroke="var(--ink)" stroke-width="2"/>'
        f'<text x="0" y="16" {text}>{top:.2f}</text><text x="10" y="{height - 25}" {text}>0</text>'
        f'<text x="40" y="{height - 6}" {text}>step 1</text>'
        f'<text x="{width - 70}" y="{height - 6}" {text}>{len(losses)}</text></svg>'
    )


def _heat(scores: Tensor, pictures: list[Shown], texts: list[str]) -> str:
    """Scores as shades, rows are pictures, columns words; the diagonal belongs together."""
    low, high = float(scores.min()), float(scores.max())
    names = [(html.escape(t, quote=True), html.escape(t.rpartition(": ")[0][:14])) for t in texts]
    head = "".join(f'<th title="{title}">{name}</th>' for title, name in names)
    lines = []
    for row, shown in zip(scores.tolist(), pictures, strict=True):
        shades = (int(100 * (value - low) / max(high - low, 1e-9)) for value in row)
        blue = "color-mix(in srgb, var(--ink) {}%, transparent)"
        each = zip(row, shades, strict=True)
        tds = "".join(f'<td style="background:{blue.format(shade)}">{value:.2f}</td>' for value, shade in each)
        lines.append(f"<tr><td>{_item(shown)}</td>{tds}</tr>")
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'
