"""What every recipe of a published method is: arms over seeds, claims about them, invariants, an honest verdict."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Claim", "Outcome", "Recipe", "layout", "main", "take"]

Figures = Mapping[str, Mapping[str, float]]  # arm -> metric -> value
Value = TypeVar("Value")


@dataclass(frozen=True)
class Claim:
    """That one arm beats another on a metric; `higher` says which way is better.

    It shows if it holds in every seed, and on average by more than the differences scatter (their standard deviation).

    >>> Claim("it helps", "R@1", better="with", than="without").judge([0.05, 0.06, 0.04])
    True
    """

    says: str
    metric: str
    better: str
    than: str
    higher: bool = True

    def differences(self, runs: Sequence[Figures]) -> list[float]:
        """How much better each seed's figure is, in the metric's own units; NaN where a figure is NaN."""
        sign = 1 if self.higher else -1
        return [sign * (run[self.better][self.metric] - run[self.than][self.metric]) for run in runs]

    def judge(self, differences: Sequence[float]) -> bool | None:
        """Whether the claim shows; None, no verdict, from fewer than three seeds. A NaN is a miss."""
        if len(differences) < 3:
            return None
        return all(d > 0 for d in differences) and statistics.mean(differences) > statistics.stdev(differences)


@dataclass(frozen=True)
class Recipe:
    """A method with and without its mechanism on real small data.

    `method` is its id in docs/methods.yaml. `run(seed, quick)` gives the figures of every arm; arms that are compared
    take equal steps. `invariants` raise AssertionError where what must hold exactly does not. `picture`, if any, draws
    the figures by seed into a folder and returns the file.
    """

    method: str
    title: str
    run: Callable[[int, bool], Figures]
    claims: Sequence[Claim]
    invariants: Sequence[Callable[[], None]] = ()
    picture: Callable[[Mapping[int, Figures], Path], Path] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a recipe gave: the figures of each seed, the verdict on each claim, and which invariants hold."""

    recipe: Recipe
    runs: Mapping[int, Figures]
    broken: Mapping[str, str]
    quick: bool
    seconds: float
    picture: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain JSON types; a figure that is not finite is null."""
        return {
            "recipe": self.recipe.method,
            "quick": self.quick,
            "seconds": round(self.seconds, 1),
            "runs": {
                str(seed): {arm: {m: _finite(v) for m, v in row.items()} for arm, row in run.items()}
                for seed, run in self.runs.items()
            },
            "claims": [
                {
                    "says": claim.says,
                    "metric": claim.metric,
                    "better": claim.better,
                    "than": claim.than,
                    "differences": [_finite(d) for d in differences],
                    "shows": claim.judge(differences),
                }
                for claim, differences in self._judged()
            ],
            "invariants": {f.__name__: self.broken.get(f.__name__, "holds") for f in self.recipe.invariants},
            "picture": str(self.picture) if self.picture else None,
        }

    def _judged(self) -> list[tuple[Claim, list[float]]]:
        return [(claim, claim.differences(list(self.runs.values()))) for claim in self.recipe.claims]

    def show(self) -> None:
        """Print the table, the invariants and the verdicts."""
        print(f"{self.recipe.title}: {len(self.runs)} seed{'s'[: len(self.runs) > 1]}, {self.seconds:.0f} s")
        _table(list(self.runs.values()))
        print()
        for invariant in self.recipe.invariants:
            name = invariant.__name__
            print(f"invariant {name.replace('_', ' ')}: {self.broken.get(name, 'holds')}")
        for claim, differences in self._judged():
            found = ", ".join(f"{d:+.3g}" for d in differences)
            over = f"{claim.metric}: {claim.better} over {claim.than}"
            print(f"claim: {claim.says} ({over}): {found}: {_word(claim, differences)}")
        if self.picture:
            print(f"picture: {self.picture}")


def take(recipe: Recipe, seeds: Sequence[int], *, quick: bool = False, out: Path | None = None) -> Outcome:
    """Run a recipe: its invariants first, then every seed; the picture goes to `out`, if given."""
    began, broken = time.perf_counter(), {}
    for invariant in recipe.invariants:
        try:
            invariant()
        except AssertionError as error:
            broken[invariant.__name__] = f"BROKEN {error}".strip()
    runs = {seed: recipe.run(seed, quick) for seed in seeds}
    picture = None
    if out is not None and recipe.picture is not None:
        out.mkdir(parents=True, exist_ok=True)
        picture = recipe.picture(runs, out)
    return Outcome(recipe, runs, broken, quick, time.perf_counter() - began, picture)


def main(recipe: Recipe, arguments: Sequence[str] | None = None) -> None:
    """The recipe as a command; exits with 1 if an invariant is broken, whatever the claims show."""
    parser = argparse.ArgumentParser(description=recipe.title)
    parser.add_argument("--quick", action="store_true", help="one seed, few steps: whether it runs, not what it shows")
    parser.add_argument("--seeds", type=int, help="how many seeds (3; with --quick 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, help="folder for the picture, if the recipe draws one")
    options = parser.parse_args(arguments)
    seeds = range(options.seeds or (1 if options.quick else 3))
    outcome = take(recipe, seeds, quick=options.quick, out=options.out)
    if options.json:
        print(json.dumps(outcome.to_json(), allow_nan=False))
    else:
        outcome.show()
    raise SystemExit(1 if outcome.broken else 0)


def _word(claim: Claim, differences: Sequence[float]) -> str:
    shows = claim.judge(differences)
    return "no verdict from so few seeds" if shows is None else "shows" if shows else "does NOT show"


def layout(
    runs: Sequence[Mapping[str, Mapping[str, Value]]], write: Callable[[Sequence[Value]], str]
) -> list[list[str]]:
    """The cells of the table of a recipe's runs, head first: arms down, or metrics down where that is narrower.

    `write` makes a cell of the seeds' values; one of an arm without that metric is empty.

    >>> layout([{"with": {"R@1": 0.5}}, {"with": {"R@1": 0.75}}], lambda values: f"{max(values)} at most")
    [['', 'R@1'], ['with', '0.75 at most']]
    """
    arms = list(runs[0])
    metrics = list(dict.fromkeys(metric for row in runs[0].values() for metric in row))

    def cell(arm: str, metric: str) -> str:
        values = [run[arm][metric] for run in runs if metric in run[arm]]
        return write(values) if values else ""

    rows = [["", *metrics], *([arm, *(cell(arm, metric) for metric in metrics)] for arm in arms)]
    turned = len(metrics) > max(4, len(arms))
    return [list(column) for column in zip(*rows, strict=True)] if turned else rows


def _table(runs: Sequence[Figures]) -> None:
    rows = layout(runs, _cell)
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, *cells in rows:
        print(f"{name:{first}}" + "".join(f"{c:>{n + 2}}" for c, n in zip(cells, widths, strict=True)))


def _cell(values: Sequence[float]) -> str:
    """Mean, with the least and the most of the seeds."""
    if any(math.isnan(v) for v in values):
        return "NaN"
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}..{max(values):.3f})"


def _finite(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
