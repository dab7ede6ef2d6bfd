"""The demo's one table: every direction on held-out groups, beside chance and what needs no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

METRICS = ("R@1", "R@10", "MRR")
PILOT = (0.25, 0.034)  # two linear heads on held-out subgroups: R@10, and chance among as many candidates
BASELINES = ("untrained", "zeroshot", "tfidf")


@dataclass(frozen=True)
class Row:
    """One direction on one held-out set: means over seeds, and their lowest and highest.

    `trained` maps a metric to (mean, low, high), `chance` to the mean; `baselines` maps "untrained", "zeroshot" and
    "tfidf" to their means by metric, where there is one.
    """

    held: str
    direction: str
    candidates: float
    trained: Mapping[str, tuple[float, float, float]]
    chance: Mapping[str, float]
    baselines: Mapping[str, Mapping[str, float]]

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
            "candidates": self.candidates,
            "trained": {m: dict(zip(("mean", "low", "high"), v, strict=True)) for m, v in self.trained.items()},
            "chance": dict(self.chance),
            "baselines": {name: dict(values) for name, values in self.baselines.items()},
        }


def rows_of(seeds: Sequence[Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]]) -> list[Row]:
    """Rows from the figures of every seed: `{"trained": {held: {direction: figures}}, "untrained": …}`."""
    rows = []
    for held, directions in seeds[0]["trained"].items():
        for direction in directions:
            found = [seed["trained"][held][direction] for seed in seeds]
            baselines = {}
            for name in BASELINES:
                if all(held in seed[name] for seed in seeds):
                    figures = [seed[name][held][direction] for seed in seeds]
                    baselines[name] = {metric: _mean([f[metric] for f in figures]) for metric in METRICS}
            values = {metric: [f[metric] for f in found] for metric in METRICS}
            rows.append(
                Row(
                    held,
                    direction,
                    _mean([f["candidates"] for f in found]),
                    {metric: (_mean(v), min(v), max(v)) for metric, v in values.items()},
                    {metric: _mean([f[f"chance_{metric}"] for f in found]) for metric in METRICS},
                    baselines,
                )
            )
    return rows


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


HEAD = ("held out", "direction", "among", "R@1", "R@10", "MRR", "chance R@10", "untrained", "zero-shot", "TF-IDF")


def cells(row: Row) -> list[str]:
    """A row as text; baselines show R@10 / MRR."""
    spread = [f"{mean:.3f}" if low == high else f"{mean:.3f} ({low:.2f}-{high:.2f})" for mean, low, high in
              (row.trained[metric] for metric in METRICS)]  # fmt: skip
    others = [
        f"{row.baselines[n]['R@10']:.3f} / {row.baselines[n]['MRR']:.3f}" if n in row.baselines else "-"
        for n in BASELINES
    ]
    return [row.held, row.direction, f"{row.candidates:.0f}", *spread, f"{row.chance['R@10']:.3f}", *others]


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What the aims ask, and whether the figures reach it; printed whichever way it came out."""
    lines = []
    for row in rows:
        mean = row.trained["R@10"][0]
        if row.held.startswith("emoji, base"):
            times = mean / row.chance["R@10"]
            lines.append(f"{_mark(times >= 10)} {row.held}, {row.direction}: {times:.1f} times chance at R@10 (aim 10)")
        elif row.held.startswith("emoji, subgroups"):
            times, pilot = mean / row.chance["R@10"], PILOT[0] / PILOT[1]
            what = f"R@10 {mean:.3f}, {times:.1f} times chance (pilot {PILOT[0]}, {pilot:.1f} times)"
            lines.append(f"{_mark(mean > PILOT[0] and times > pilot)} {row.held}, {row.direction}: {what}")
        elif "zeroshot" in row.baselines:
            zero = row.baselines["zeroshot"]["MRR"]
            what = f"MRR {row.trained['MRR'][0]:.3f}, zero-shot {zero:.3f}"
            lines.append(f"{_mark(row.trained['MRR'][0] >= zero)} {row.held}, {row.direction}: {what}")
    return lines


def _mark(reached: bool) -> str:
    return "reached:    " if reached else "NOT reached:"
