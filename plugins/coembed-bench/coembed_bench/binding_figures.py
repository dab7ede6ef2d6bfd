"""What `coembed-bench binding` reports of each direction: means over seeds, beside chance and the untrained space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from coembed.metrics import compare
from coembed_bench.report import Aim

TIMES, LEVEL = 10.0, 0.01
_RESAMPLED = 2000

Figures = Mapping[str, Any]


def row(direction: str, trained: Sequence[Figures], untrained: Sequence[Figures], emergent: bool) -> dict[str, Any]:
    """A direction's row from the figures of each seed (`evaluate` with `queries`).

    p is the greater of two, against chance and against the untrained space: how likely MRR is no better, over held-out
    groups drawn again; a query of several seeds counts with its group.
    """
    groups = [group for figures in trained for group in figures["query_group"]]
    ours = _column(trained, "query_MRR")
    chance, before = _column(trained, "query_chance_MRR"), _column(untrained, "query_MRR")
    p = max(compare(ours, other, groups, n=_RESAMPLED).p for other in (chance, before))
    return {
        "system": "emergent" if emergent else "trained",
        "case": direction,
        "queries": round(_mean(trained, "n")),
        "candidates": round(_mean(trained, "candidates")),
        "groups": round(sum(len(set(figures["query_group"])) for figures in trained) / len(trained)),
        **{name: _mean(trained, name) for name in ("R@1", "R@10", "MRR")},
        "chance R@10": _mean(trained, "chance_R@10"),
        "untrained R@10": _mean(untrained, "R@10"),
        "times chance": _mean(trained, "R@10") / _mean(trained, "chance_R@10"),
        "p": p,
    }


def aims(rows: Sequence[Mapping[str, Any]]) -> list[Aim]:
    """Trained directions at ten times chance, emergent ones above it, and all of them beyond doubt."""
    found = []
    for one in rows:
        least = TIMES if one["system"] == "trained" else 1.0
        found.append(Aim(f"{one['case']} times chance", one["times chance"], least, least=True))
        found.append(Aim(f"{one['case']} p", one["p"], LEVEL))
    return found


def _mean(found: Sequence[Figures], name: str) -> float:
    return sum(float(figures[name]) for figures in found) / len(found)


def _column(found: Sequence[Figures], name: str) -> torch.Tensor:
    return torch.tensor([value for figures in found for value in figures[name]], dtype=torch.float64)
