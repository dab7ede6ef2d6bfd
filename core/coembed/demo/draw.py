"""Items as a person sees or hears them, as HTML: pictures, waveforms with a player, sequences, code, syntax trees."""

from __future__ import annotations

import base64
import html
import io
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

LETTERS = 240  # of a sequence; the rest is counted
NODES = 36  # of a tree, nearest to its root first
STYLE = """
img { width: 64px; height: 64px; image-rendering: pixelated; background: #fff; border-radius: .3rem; }
pre { background: #8881; padding: .5rem; border-radius: .3rem; overflow-x: auto; font-size: .75rem; max-height: 14rem; }
audio { display: block; height: 2rem; width: 220px; } svg { max-width: 100%; height: auto; }
.sequence { font: 600 .75rem/1.35 ui-monospace, monospace; word-break: break-all; max-width: 30rem; }
.sequence i { font-style: normal; } .A { color: #3a9b4b; } .C { color: #2f6fd6; } .G { color: #b8860b; }
.T { color: #d0453b; } .greasy { color: #a8741a; } .polar { color: #3a9b4b; } .plus { color: #2f6fd6; }
.minus { color: #d0453b; } .special { color: #8e44ad; }
"""
# Residues by what their side chains do in water.
RESIDUES = {"greasy": "AVILMFWY", "polar": "STNQH", "plus": "KR", "minus": "DE", "special": "CGP"}


@dataclass(frozen=True)
class Shown:
    """An item of a modality as a person sees it, with a caption and a score."""

    kind: str
    item: Any
    caption: str = ""
    score: float | None = None


def drawn(shown: Shown) -> str:
    """An item as HTML."""
    if shown.kind == "image":
        return (
            f'<img src="{_picture(shown.item)}" alt="{html.escape(shown.caption or "the query picture", quote=True)}">'
        )
    if shown.kind == "audio":
        return sound(*shown.item)
    if shown.kind in ("dna", "protein"):
        return sequence(shown.item, shown.kind)
    if shown.kind == "graph":
        return tree(shown.item)
    text = html.escape(str(shown.item))
    return f"<pre>{text}</pre>" if shown.kind == "code" else f"<span>{text}</span>"


def _picture(picture: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def wav(samples: Any, rate: int) -> bytes:
    """Samples `[n]`, full scale at 1, as a mono WAV file of 16 bits."""
    import numpy as np

    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def sound(samples: Any, rate: int, width: int = 220, height: int = 48) -> str:
    """The outline of a waveform, `[n]` samples, and a player of it."""
    step = max(1, len(samples) // width)
    peaks = [float(abs(samples[i : i + step]).max()) for i in range(0, len(samples), step)]
    top, middle = max([*peaks, 1e-6]), height / 2
    upper = [f"{x},{middle - peak / top * middle:.1f}" for x, peak in enumerate(peaks)]
    lower = [f"{x},{middle + peak / top * middle:.1f}" for x, peak in reversed(list(enumerate(peaks)))]
    data = base64.b64encode(wav(samples, rate)).decode()
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="a waveform">'
        f'<polygon points="{" ".join(upper + lower)}" fill="var(--ink)"/></svg>'
        f'<audio controls preload="none" src="data:audio/wav;base64,{data}"></audio>'
    )


def sequence(letters: str, kind: str) -> str:
    """DNA coloured by base, a protein by the kind of its residues."""
    kinds = {letter: name for name, group in RESIDUES.items() for letter in group} if kind == "protein" else {}
    runs = groupby(letters[:LETTERS], lambda letter: kinds.get(letter, letter if letter in "ACGT" else "special"))
    spans = "".join(f'<i class="{name}">{html.escape("".join(run))}</i>' for name, run in runs)
    unit = "residues" if kind == "protein" else "bases"
    rest = f"… {len(letters):,} {unit}" if len(letters) > LETTERS else f" {len(letters):,} {unit}"
    return f'<div class="sequence">{spans}<small>{rest}</small></div>'


def tree(graph: Mapping[str, Any], across: int = 96, down: int = 15) -> str:
    """A syntax tree (node-link JSON with a root) from left to right, leaves in order."""
    root = graph["graph"].get("root", 0)
    texts = {node["id"]: str(node.get("text", "")) for node in graph["nodes"]}
    below: dict[Any, list[Any]] = {}
    for edge in graph["edges"]:
        if edge.get("type") != "next":
            below.setdefault(edge["source"], []).append(edge["target"])
    kept = _nearest(root, below)
    place: dict[Any, tuple[float, float]] = {}
    leaves = 0.0

    def put(node: Any, depth: int) -> float:
        nonlocal leaves
        rows = [put(child, depth + 1) for child in below.get(node, []) if child in kept]
        if not rows:
            leaves += 1
        place[node] = depth * across + 4.0, (sum(rows) / len(rows) if rows else leaves * down)
        return place[node][1]

    put(root, 0)
    lines = "".join(
        f'<path d="M{place[a][0]:.0f} {place[a][1]:.0f}H{place[b][0] - 14:.0f}L{place[b][0]:.0f} {place[b][1]:.0f}"/>'
        for a in place
        for b in below.get(a, [])
        if b in place
    )
    names = "".join(
        f'<text x="{x + 3:.0f}" y="{y - 2:.0f}">{html.escape(texts[node][:17])}</text>'
        for node, (x, y) in place.items()
    )
    width = max(x for x, _ in place.values()) + across
    height = leaves * down + 6
    more = f"<small>{len(kept)} of {len(texts)} nodes</small>" if len(kept) < len(texts) else ""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{min(width, 560):.0f}" role="img" '
        f'aria-label="a syntax tree">'
        f'<g fill="none" stroke="var(--line)">{lines}</g><g font-size="9" fill="currentColor">{names}</g></svg>{more}'
    )


def _nearest(root: Any, below: Mapping[Any, list[Any]]) -> set[Any]:
    """The nodes nearest to the root, level by level."""
    kept, level = [root], [root]
    while level and len(kept) < NODES:
        level = [child for node in level for child in below.get(node, [])]
        kept += level
    return set(kept[:NODES])
