"""What every benchmark gives back, and its two forms: a table for people, one JSON object for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coembed_bench import machine

__all__ = ["Aim", "Failed", "Report"]


class Failed(Exception):
    """A benchmark that could not be taken; the message says what failed and why."""


@dataclass(frozen=True)
class Aim:
    """A figure that was promised: `value` is what was measured (None: it could not be).

    `aim` is the most that it may be, or with `least` the least.
    """

    name: str
    value: float | None
    aim: float
    least: bool = False

    def met(self, busy: bool = False) -> bool | None:
        """Whether the aim is met; None, no conclusion, without a value or from a busy machine.

        >>> Aim("import", 30.0, 80.0).met(), Aim("import", 30.0, 80.0).met(busy=True)
        (True, None)
        >>> Aim("times the peer", 4.0, 5.0, least=True).met()
        False
        """
        if busy or self.value is None or not math.isfinite(self.value):
            return None
        return self.value >= self.aim if self.least else self.value <= self.aim


@dataclass(frozen=True)
class Report:
    """The outcome of one benchmark: rows hold `system`, `case` and the bench's own columns.

    `load` is the highest load average seen (None: not known, or figures that load does not change), `packages` those
    whose versions matter, `units` what the columns are counted in.

    >>> Report("demo", [{"system": "ours", "case": "a", "ms": 3.0}], [Aim("a", 3.0, 5.0)], load=0.0).to_json()["aims"]
    [{'name': 'a', 'value': 3.0, 'aim': 5.0, 'least': False, 'met': True}]
    """

    bench: str
    rows: list[dict[str, Any]]
    aims: list[Aim]
    load: float | None
    packages: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types: bench, machine, versions, rows, aims.

        `machine` also says `load` and `busy`; an aim's `met` is null where nothing can be concluded.
        """
        busy = machine.busy(self.load)
        around = {"load": None if self.load is None else round(self.load, 2), "busy": busy}
        return {
            "bench": self.bench,
            "machine": machine.facts() | around,
            "versions": machine.versions(self.packages),
            "rows": self.rows,
            "aims": [
                {"name": aim.name, "value": aim.value, "aim": aim.aim, "least": aim.least, "met": aim.met(busy)}
                for aim in self.aims
            ],
        }

    def show(self) -> None:
        """Print the report: machine, table, aims."""
        from rich.console import Console
        from rich.table import Table

        data = self.to_json()
        on = data["machine"]
        console = Console(highlight=False, soft_wrap=True)
        if not console.is_terminal:
            console.width = 160  # a file or a pipe has no width to fit
        title = f"{self.bench}: {on['processor']}, {on['cores']} cores, load {_cell(on['load'])}"
        table = Table(title=title, title_justify="left")
        columns = [
            c for c in dict.fromkeys(key for row in self.rows for key in row) if any(r.get(c) for r in self.rows)
        ]
        for column in columns:
            unit = self.units.get(column)
            numeric = any(isinstance(row.get(column), (int, float)) for row in self.rows)
            header = f"{column} ({unit})" if unit else column
            table.add_column(header, justify="right" if numeric else "left", no_wrap=column in ("system", "case"))
        for row in self.rows:
            table.add_row(*(_cell(row.get(column)) for column in columns))
        console.print(table)
        versions = ", ".join(f"{name} {version or 'missing'}" for name, version in data["versions"].items())
        console.print(f"{versions}; kernels: {on['kernels']}")
        for aim in data["aims"]:
            value, bound = _cell(aim["value"]), f"at {'least' if aim['least'] else 'most'} {_cell(aim['aim'])}"
            console.print(f"aim {aim['name']}: {value}, {bound}: {_verdict(aim['met'])}")
        if on["busy"]:
            console.print(f"The machine was busier than its {on['cores']} cores (load {on['load']}): no conclusion.")


def _verdict(met: bool | None) -> str:
    return "no conclusion" if met is None else "met" if met else "missed"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"  # a recall needs its third digit
