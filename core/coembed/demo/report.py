"""report.html: what was asked and found as pictures, sounds, sequences, trees and code; figures; charts. One file."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from coembed.demo import charts, draw
from coembed.demo.draw import Shown, drawn
from coembed.demo.table import HEAD, NOTE, Row, cells

STYLE = """
:root { color-scheme: light dark; --line: #8888; --ink: #2563eb; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .8rem; }
td, th { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
.scroll { overflow-x: auto; }
.query { border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; margin: 1rem 0; }
.asked { display: flex; gap: .8rem; align-items: center; font-weight: 600; }
.asked > small { white-space: nowrap; }
.hits { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: .6rem; align-items: flex-start; }
.hit { max-width: 34rem; } small { opacity: .75; font-weight: 400; } .hit > small { display: block; }
"""


@dataclass(frozen=True)
class Query:
    """Something asked and what was found, best first; `direction` says from where to where."""

    direction: str
    asked: Shown
    found: Sequence[Shown]


@dataclass(frozen=True)
class Page:
    """What the report shows: figures in parts, what is said of them, queries, what was asked of all towers at once."""

    parts: Mapping[str, Sequence[Row]]
    lines: Sequence[str]
    queries: Sequence[Query]
    everywhere: Sequence[Query]
    losses: Sequence[Mapping[str, Any]]
    tasks: Sequence[str]
    heat: tuple[Tensor, Sequence[Shown], Sequence[str]]


def write(path: Path, page: Page) -> None:
    """Write the report as one file that needs no network."""
    body = [
        "<h1>coembed demo: seven modalities in one space</h1>",
        "<p>Text, pictures, code, syntax trees, DNA, proteins and sounds; no record has all seven.</p>",
        "<h2>One question, every modality</h2>",
        "<p>The best of each tower, in the order of how far they stand out among their own kind (in standard deviations"
        " of that tower's scores, in brackets), since scores of two modalities do not compare.</p>",
        *(_query(query) for query in page.everywhere),
        "<h2>From one modality to another</h2>",
        *(_query(query) for query in page.queries),
        "<h2>Held-out figures</h2>",
        f"<p>Means over seeds, lowest and highest in brackets; {html.escape(NOTE)}.</p>",
        *(f"<h3>{html.escape(title)}</h3>{_table(rows)}" for title, rows in page.parts.items() if rows),
        "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in page.lines) + "</ul>",
        "<h2>Loss of each task</h2>",
        charts.curves(page.losses, page.tasks),
        "<h2>Similarity of held-out pictures and words</h2>",
        charts.heat(*page.heat),
    ]
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>coembed demo</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}{draw.STYLE}</style></head><body>{''.join(body)}</body></html>"
    )
    path.write_text(text, encoding="utf-8")


def _table(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEAD)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{lines}</table></div>'


def _query(query: Query) -> str:
    hits = "".join(f'<div class="hit">{drawn(hit)}<small>{_label(hit)}</small></div>' for hit in query.found)
    caption = f" {html.escape(query.asked.caption)}" if query.asked.caption else ""
    label = f"<small>{html.escape(query.direction)}{caption}</small>"
    return (
        f'<div class="query"><div class="asked">{drawn(query.asked)}{label}</div><div class="hits">{hits}</div></div>'
    )


def _label(hit: Shown) -> str:
    score = "" if hit.score is None else f"{hit.score:.3f} "
    return score + html.escape(hit.caption)
