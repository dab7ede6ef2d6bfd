"""What commands print: data on standard output, notes on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = ("R@1", "R@10", "MRR", "median_rank")  # of the figures, what fits a terminal; --json has all
PIPE_WIDTH = 10_000  # a table that no person looks at is never folded


def note(text: str) -> None:
    """One line for the person at the terminal; never mixed into the data."""
    print(text, file=sys.stderr, flush=True)


def emit(data: Any) -> None:
    """Data as JSON on standard output; what JSON has no word for (NaN, infinity) is null."""
    print(json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def table(head: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table on standard output; numbers to the right, None as a dash."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title or None, title_justify="left")
    for column, name in enumerate(head):
        numeric = any(isinstance(row[column], (int, float)) for row in rows)
        # The first column names the row: folded, it could not be copied.
        grid.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=column == 0)
    for row in rows:
        grid.add_row(*(Text(cell(value)) for value in row))  # Text: what users wrote is no markup
    if console.is_terminal:
        console.print(grid)
        return
    console = Console(file=sys.stdout, width=PIPE_WIDTH)
    with console.capture() as captured:
        console.print(grid)
    print("\n".join(line.rstrip() for line in captured.get().splitlines() if line.strip()))


def cell(value: object) -> str:
    """A value in a table.

    >>> cell(0.12345), cell(None), cell(7), cell(["a", "b"])
    ('0.123', '–', '7', 'a, b')
    """
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def short(value: object, most: int = 80) -> str:
    """A payload or text on one line, cut.

    >>> short({"text": "a\\ncat"}), short("x" * 90)[-1]
    ('text: a cat', '…')
    """
    if isinstance(value, Mapping):
        value = "  ".join(f"{key}: {inner}" for key, inner in value.items() if inner is not None)
    text = " ".join(str(value).split()) if value is not None else ""
    return text if len(text) <= most else text[: most - 1] + "…"


def figures(found: Mapping[str, Any], title: str = "") -> None:
    """Figures as a table: a row a direction, chance in brackets; of an eval of another shape, a row a metric.

    Emergent directions, whose towers never trained together, stand in a table of their own.
    """
    rows = list(found.values())
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        table(["metric", "value"], list(found.items()), title)
        return
    emergent = {name: row for name, row in found.items() if row.get("emergent")}
    trained = {name: row for name, row in found.items() if name not in emergent}
    if trained:
        _directions(trained, title)
    if emergent:
        _directions(emergent, f"{title}; emergent: these towers never trained together" if title else "emergent")


def _directions(found: Mapping[str, Mapping[str, Any]], title: str) -> None:
    rows = list(found.values())
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    ranked = [name for name in shared if f"chance_{name}" in shared]
    shown = [name for name in SHOWN if name in ranked] or ranked
    plain = [name for name in ("n", "candidates") if name in shared] if shown else shared
    last = [name for name in ("p_chance",) if name in shared]
    lines = [
        [
            direction,
            *(row[name] for name in plain),
            *(f"{cell(row[name])} ({cell(row[f'chance_{name}'])})" for name in shown),
            *(row[name] for name in last),
        ]
        for direction, row in found.items()
    ]
    bracket = "; chance in brackets" if shown else ""
    table(["direction", *plain, *(name.replace("_", " ") for name in [*shown, *last])], lines, title + bracket)
