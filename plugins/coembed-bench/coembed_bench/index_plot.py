"""The picture of `coembed-bench index`: recall against bytes a row, the size of a mark the time of a single query."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["scatter"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 480, 60, 190, 40, 50
COLOURS = {"coembed": "#2563eb", "faiss": "#d0453b", "usearch": "#3a9b4b"}


def scatter(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """An SVG of rows with `system`, `case`, `memory`, `recall` and `single`; the axis of bytes is logarithmic.

    >>> row = {"system": "coembed", "case": "exact, 10 x 4", "memory": 16.0, "recall": 1.0, "single": 0.5}
    >>> scatter([row], "ten rows").count("<circle")
    1
    """
    bytes_ = [math.log2(row["memory"]) for row in rows]
    low, high = math.floor(min(bytes_)), max(math.floor(min(bytes_)) + 1, math.ceil(max(bytes_)))
    floor = math.floor(20 * min(min(row["recall"] for row in rows), 0.95)) / 20

    def across(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (value - floor) / (1 - floor) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="20" font-size="14">{html.escape(title)}</text>']
    for power in range(low, high + 1):
        x = across(power)
        parts.append(f'<line x1="{x:.0f}" y1="{TOP}" x2="{x:.0f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{2**power:g}</text>')
    for step in range(round(20 * floor), 21, 1 if floor >= 0.5 else 2):
        y = up(step / 20)
        parts.append(f'<line x1="{LEFT}" y1="{y:.0f}" x2="{WIDTH - RIGHT}" y2="{y:.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{step / 20:.2f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    said = "bytes a row in memory (a mark's area: ms of a single query)"
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{said}</text>')
    parts.append(f'<text x="14" y="{HEIGHT / 2:.0f}" transform="rotate(-90 14 {HEIGHT / 2:.0f})">recall@10</text>')
    slowest = max(row["single"] for row in rows)
    taken: list[float] = []
    for row in sorted(rows, key=lambda row: -row["recall"]):
        x, y = across(math.log2(row["memory"])), up(row["recall"])
        radius = 3 + 15 * math.sqrt(row["single"] / slowest)
        colour = COLOURS.get(row["system"], "#555")
        name = str(row["case"]).rpartition(", ")[0]
        told = f"{name}: recall {row['recall']:.3f}, {row['memory']:.0f} bytes, {row['single']:.2f} ms"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.35" '
            f'stroke="{colour}"><title>{html.escape(told)}</title></circle>'
        )
        label = max([y, *(at + 14 for at in taken)])  # names stand in a column, so that none hides another
        taken.append(label)
        at = WIDTH - RIGHT + 20
        parts.append(
            f'<polyline points="{x:.1f},{y:.1f} {at - 6},{label - 4:.1f}" fill="none" stroke="{colour}" '
            'stroke-opacity="0.3"/>'
        )
        parts.append(f'<text x="{at}" y="{label:.1f}" fill="{colour}">{html.escape(name)}</text>')
    height = max(HEIGHT, int(max(taken)) + 20)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )
