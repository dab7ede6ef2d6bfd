"""The demo's one table: every direction on held-out groups, beside chance and what needs no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from coembed.metrics import compare

METRICS = ("R@1", "R@10", "MRR")
BASELINES = ("untrained", "lexical")
Measured = Mapping[str, Mapping[str, Mapping[str, Any]]]  # figures by held-out set and direction


@dataclass
class Figures:
    """What `evaluate` gave for one seed, query by query: the space after training and before, and shared words."""

    trained: dict[str, dict[str, Any]] = field(default_factory=dict)
    untrained: dict[str, dict[str, Any]] = field(default_factory=dict)
    lexical: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One direction on one held-out set: means over seeds, and their lowest and highest.

    `trained` maps a metric to (mean, low, high), `chance` to the mean; `baselines` maps "untrained" and "lexical" to
    their means by metric, where there is one. `p` says how likely MRR is no better than "chance" and "untrained": a
    paired bootstrap over the groups of all seeds. `zero_shot`: untrained, the two towers are one checkpoint.
    """

    held: str
    direction: str
    candidates: float
    trained: Mapping[str, tuple[float, float, float]]
    chance: Mapping[str, float]
    baselines: Mapping[str, Mapping[str, float]]
    p: Mapping[str, float] = field(default_factory=dict)
    emergent: bool = False
    zero_shot: bool = False

    def card(self) -> dict[str, float]:
        """The figures that a saved space's card keeps."""
        return {
            **{metric: self.trained[metric][0] for metric in METRICS},
            **{f"chance_{metric}": self.chance[metric] for metric in METRICS},
        }

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {
            "held_out": self.held,
            "direction": self.direction,
            "emergent": self.emergent,
            "candidates": self.candidates,
            "trained": {m: dict(zip(("mean", "low", "high"), v, strict=True)) for m, v in self.trained.items()},
            "chance": dict(self.chance),
            "baselines": {name: dict(values) for name, values in self.baselines.items()},
            "p": dict(self.p),
        }


def rows_of(seeds: Sequence[Figures], *, zero_shot: bool = True) -> list[Row]:
    """Rows from the figures of every seed; `zero_shot`: text and code start as one checkpoint."""
    return [
        _row(seeds, held, direction, zero_shot and set(direction.split("->")) == {"text", "code"})
        for held, directions in seeds[0].trained.items()
        for direction in directions
    ]


def _row(seeds: Sequence[Figures], held: str, direction: str, zero_shot: bool) -> Row:
    found = [seed.trained[held][direction] for seed in seeds]
    before = [seed.untrained[held][direction] for seed in seeds]
    lexical = [seed.lexical[held][direction] for seed in seeds if direction in seed.lexical.get(held, {})]
    groups = [group for figures in found for group in figures["query_group"]]
    ours = _column(found, "query_MRR")
    values = {metric: [f[metric] for f in found] for metric in METRICS}
    return Row(
        held,
        direction,
        _mean([f["candidates"] for f in found]),
        {metric: (_mean(v), min(v), max(v)) for metric, v in values.items()},
        {metric: _mean([f[f"chance_{metric}"] for f in found]) for metric in METRICS},
        {
            name: {metric: _mean([f[metric] for f in figures]) for metric in METRICS}
            for name, figures in (("untrained", before), ("lexical", lexical))
            if figures
        },
        {
            "chance": compare(ours, _column(found, "query_chance_MRR"), groups).p,
            "untrained": compare(ours, _column(before, "query_MRR"), groups).p,
        },
        bool(found[0].get("emergent")),
        zero_shot,
    )


def _column(figures: Sequence[Mapping[str, Any]], name: str) -> torch.Tensor:
    return torch.tensor([value for found in figures for value in found[name]], dtype=torch.float64)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


HEAD = (
    "direction", "held out", "among", "R@1", "R@10", "MRR", "chance", "untrained", "TF-IDF", "p chance", "p untrained",
)  # fmt: skip
NOTE = "chance, untrained and TF-IDF are R@10 / MRR; * is the checkpoint's zero-shot"


def cells(row: Row) -> list[str]:
    """A row as text."""
    spread = [f"{mean:.3f}" if low == high else f"{mean:.3f} ({low:.2f}-{high:.2f})" for mean, low, high in
              (row.trained[metric] for metric in METRICS)]  # fmt: skip
    others = [_both(row.chance), *(_both(row.baselines[n]) if n in row.baselines else "-" for n in BASELINES)]
    others[1] += "*" if row.zero_shot else ""
    ps = [f"{row.p[name]:.4f}" if name in row.p else "-" for name in ("chance", "untrained")]
    return [row.direction, row.held, f"{row.candidates:.0f}", *spread, *others, *ps]


def _both(values: Mapping[str, float]) -> str:
    return f"{values['R@10']:.3f} / {values['MRR']:.3f}"


def parts(rows: Sequence[Row], harder: Sequence[str]) -> dict[str, list[Row]]:
    """The table in its parts: pairs that trained, pairs that emerged, the same on harder splits."""
    main = [row for row in rows if row.held not in harder]
    return {
        "Trained together": [row for row in main if not row.emergent],
        "Emergent: never trained together": [row for row in main if row.emergent],
        "The same, harder": [row for row in rows if row.held in harder],
    }
