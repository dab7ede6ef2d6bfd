"""History: what a run logged, in memory and as JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class History:
    """One row a step ({"step", "task", "loss", "lr", "seconds"}), held-out figures as rows among them.

    With a `path` every row is also a line of that file; rows after step `resumed_at` of an earlier, interrupted run are
    dropped from it, since those steps happen again.

    >>> history = History()
    >>> history.log({"step": 1, "loss": 0.5})
    >>> history.losses
    [0.5]
    """

    def __init__(self, path: Path | None = None, resumed_at: int = 0) -> None:
        self.path, self.resumed_at = path, resumed_at
        self.rows: list[dict[str, Any]] = []
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if resumed_at and path.exists():
                self.rows = [row for row in map(_parse, path.read_text().splitlines()) if 0 < row["step"] <= resumed_at]
            part = path.with_suffix(".part")  # a kill leaves the old file or the new one
            part.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
            part.replace(path)

    def log(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self.rows.append(row)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def sync(self) -> None:
        """Make sure that the rows so far outlive a power cut: a checkpoint relies on them."""
        if self.path is not None:
            with self.path.open("a") as file:
                os.fsync(file.fileno())

    @property
    def losses(self) -> list[float]:
        """The loss of every step."""
        return [row["loss"] for row in self.rows if "loss" in row]

    @property
    def figures(self) -> Mapping[str, Any]:
        """The last held-out figures, by direction; empty if there were none."""
        return next((row["figures"] for row in reversed(self.rows) if "figures" in row), {})


def _parse(line: str) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:  # the line that a kill cut off
        return {"step": 0}
    return row
