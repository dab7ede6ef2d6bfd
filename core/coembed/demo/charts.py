"""The report's charts: the loss of every task, and a heat map of similarities."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from coembed.demo.draw import Shown, drawn

COLOURS = ("#2563eb", "#d0453b", "#3a9b4b", "#b8860b", "#8e44ad", "#0e7490")


def curves(rows: Sequence[Mapping[str, Any]], names: Sequence[str], width: int = 640, height: int = 220) -> str:
    """The loss of each task over the steps, as a share of its first value, smoothed a little; linear axes."""
    steps = max((row["step"] for row in rows if "loss" in row), default=0)
    lines, legend = [], []
    for task, (name, colour) in enumerate(zip(names, COLOURS * len(names), strict=False)):
        own = [(row["step"], row["loss"]) for row in rows if row.get("task") == task and "loss" in row]
        if len(own) < 2:
            continue
        smooth = [
            sum(v for _, v in own[max(0, i - 2) : i + 1]) / len(own[max(0, i - 2) : i + 1]) for i in range(len(own))
        ]
        points = " ".join(
            f"{40 + step / steps * (width - 50):.1f},{height - 25 - value / (1.2 * smooth[0]) * (height - 40):.1f}"
            for (step, _), value in zip(own, smooth, strict=True)
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        found = f"{html.escape(name)}: {own[0][1]:.2f} to {smooth[-1]:.2f}"
        legend.append(f'<span style="color:{colour}">{found}</span>')
    if not lines:
        return "<p>Too few steps for a curve.</p>"
    text = 'font-size="12" fill="currentColor"'
    one = height - 25 - (height - 40) / 1.2
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="loss over {steps} steps">'
        f'{"".join(lines)}<text x="0" y="{one:.0f}" {text}>start</text><text x="20" y="{height - 25}" {text}>0</text>'
        f'<text x="40" y="{height - 6}" {text}>step 1</text>'
        f'<text x="{width - 40}" y="{height - 6}" {text}>{steps}</text>'
        f"</svg><p>{' · '.join(legend)}</p>"
    )


def heat(scores: Tensor, pictures: Sequence[Shown], texts: Sequence[str]) -> str:
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
        lines.append(f"<tr><td>{drawn(shown)}</td>{tds}</tr>")
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'
