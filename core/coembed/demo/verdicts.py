"""What the aims ask of the table, and whether it reaches them; printed whichever way it came out."""

from __future__ import annotations

from collections.abc import Sequence

from coembed.demo.data import EMOJI, FUNCTIONS, HARDER, HIDDEN, SUBGROUPS, TOWERS
from coembed.demo.table import Row

LEVEL = 0.01
PILOT = (0.25, 0.034)  # two linear heads on held-out subgroups: R@10, and chance among as many candidates


def verdicts(rows: Sequence[Row]) -> list[str]:
    """A line an aim: what trained beats chance and untrained, what emerged beats chance, and the aims of each pair."""
    main = [row for row in rows if row.held not in HARDER]
    lines = _significant([row for row in main if not row.emergent], ("chance", "untrained"), "trained")
    lines += _significant([row for row in main if row.emergent], ("chance",), "emergent")
    for row in rows:
        mean, what = row.trained["R@10"][0], f"{row.direction} ({row.held})"
        if row.held == EMOJI:
            times = mean / row.chance["R@10"]
            lines.append(f"{_mark(times >= 10)} {what}: {times:.1f} times chance at R@10 (aim 10)")
        elif row.held == SUBGROUPS:
            times, pilot = mean / row.chance["R@10"], PILOT[0] / PILOT[1]
            found = f"R@10 {mean:.3f}, {times:.1f} times chance (pilot {PILOT[0]}, {pilot:.1f} times)"
            lines.append(f"{_mark(mean > PILOT[0] and times > pilot)} {what}: {found}")
        elif row.zero_shot and row.held in (FUNCTIONS, HIDDEN):
            zero, ours = row.baselines["untrained"]["MRR"], row.trained["MRR"][0]
            lines.append(f"{_mark(ours >= zero)} {what}: MRR {ours:.3f}, zero-shot {zero:.3f}")
    return lines


def _significant(rows: Sequence[Row], against: Sequence[str], kind: str) -> list[str]:
    """One line for the rows that beat all of `against`, one for each that does not."""
    short = [(row, name) for row in rows for name in against if not row.p[name] < LEVEL]
    good = sum(all(row.p[name] < LEVEL for name in against) for row in rows)
    found = f"{good} of {len(rows)} {kind} directions beat {' and '.join(against)} at p < {LEVEL}"
    lines = [f"{_mark(good == len(rows))} {found}"]
    for row, name in short:
        lines.append(f"{_mark(False)} {row.direction} ({row.held}) against {name}: p {row.p[name]:.4f}")
    return lines if rows else []


def _mark(reached: bool) -> str:
    return "reached:    " if reached else "NOT reached:"


def unmeasured(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Which of the directions have no honest pair, by tower, and why."""
    if not pairs:
        return []
    total = len(TOWERS) * (len(TOWERS) - 1)
    several: dict[tuple[str, ...], list[str]] = {}
    for a in TOWERS:
        if others := tuple(b for b in TOWERS if (a, b) in pairs):
            several.setdefault(others, []).append(a)
    named = "; ".join(f"{' and '.join(ones)} with {', '.join(others)}" for others, ones in several.items())
    why = "no record has both, and that an emoji, a function and a sound share a word does not make them one thing"
    return [f"No honest pair for {2 * len(pairs)} of {total} directions ({named}): {why}."]
