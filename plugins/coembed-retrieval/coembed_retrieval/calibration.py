"""Calibration: a retriever's or reranker's scores to probabilities that a hit is right."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from coembed.plugins import PluginError
from coembed_retrieval.fusion import Scale, Weighted
from coembed_retrieval.stages import Retriever

Floats = NDArray[np.float64]


class Calibrate:
    """Score -> probability, fitted on scores of which it is known whether they were right.

    "platt" is a sigmoid of the score, two numbers, for few examples; "isotonic" any rising staircase (joined by
    lines), for hundreds. It keeps the order of scores (isotonic joins some), so no ranking of one list changes; what
    changes is that lists of different retrievers can be added, and that a threshold means something.
    Source: Platt 1999, with his smoothed targets; Zadrozny and Elkan 2002. Fitting is scikit-learn's.

    >>> calibrate = Calibrate().fit([0.9, 0.8, 0.3, 0.1], [True, True, False, False])
    >>> calibrate([0.9])[0] > 0.5 > calibrate([0.1])[0]
    True
    """

    def __init__(self, kind: str = "platt") -> None:
        if kind not in ("platt", "isotonic"):
            raise ValueError(f"kind {kind!r} is neither 'platt' nor 'isotonic'")
        self.kind = kind
        self.curve: dict[str, list[float]] | None = None  # what was fitted

    def fit(self, scores: Sequence[float], right: Sequence[bool]) -> Self:
        """Fit to scores and whether each was right.

        Raises ValueError unless there are right and wrong ones and all scores are finite, PluginError without
        scikit-learn.
        """
        x, y = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)
        if x.ndim != 1 or x.shape != y.shape or not np.isfinite(x).all():
            raise ValueError(f"Calibrate.fit: {x.shape} scores, all finite, and as many verdicts, got {y.shape}")
        if y.all() or not y.any():
            raise ValueError(f"Calibrate.fit: of {len(y)} scores {int(y.sum())} are right: both kinds are needed")
        self.curve = (_platt if self.kind == "platt" else _isotonic)(x, y)
        return self

    def __call__(self, scores: Sequence[float]) -> list[float]:
        """A probability a score; raises ValueError if nothing was fitted."""
        if self.curve is None:
            raise ValueError("Calibrate: fit it first, or load a fitted one")
        x = np.asarray(scores, dtype=np.float64)
        if self.kind == "platt":
            slope, offset = self.curve["sigmoid"]
            return [*map(float, np.exp(-np.logaddexp(0, -(slope * x + offset))))]
        return [*map(float, np.interp(x, self.curve["scores"], self.curve["probabilities"]))]

    def save(self, path: Path | str) -> None:
        """Write what was fitted as JSON."""
        Path(path).write_text(json.dumps({"kind": self.kind, "curve": self.curve}), encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; raises ValueError naming the file if it is no such thing."""
        try:
            facts = json.loads(Path(path).read_text(encoding="utf-8"))
            made = cls(facts["kind"])
            made.curve = facts["curve"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a saved calibration ({error})") from error
        return made


def calibrated(
    retrieve: Sequence[Retriever],
    queries: Sequence[Any],
    relevant: Sequence[Collection[str]],
    *,
    kind: str = "platt",
    depth: int = 100,
) -> Weighted:
    """A fusion that adds the probabilities of retrievers, each calibrated on what it finds for known queries.

    `relevant` has the right ids of each query. Take queries that no figure is reported on.
    """
    scales: list[Scale] = []
    for stage in retrieve:
        found = stage.retrieve(queries, depth)
        pairs = [(hit.score, hit.id in right) for hits, right in zip(found, relevant, strict=True) for hit in hits]
        scales.append(Calibrate(kind).fit([score for score, _ in pairs], [right for _, right in pairs]))
    return Weighted([1.0] * len(scales), scales)


def _platt(x: Floats, y: NDArray[np.bool_]) -> dict[str, list[float]]:
    """Slope and offset on the scores as they are; fitted on standardised ones, where the solver is well behaved."""
    logistic = _sklearn("linear_model").LogisticRegression
    right, wrong = int(y.sum()), int((~y).sum())
    mean, deviation = x.mean(), x.std() or 1.0
    # Targets short of 0 and 1, or separable scores would have a slope without end: each example counts as both.
    target = np.where(y, (right + 1) / (right + 2), 1 / (wrong + 2))
    twice = np.tile((x - mean) / deviation, 2)[:, None]
    model = logistic(C=np.inf, max_iter=1000).fit(
        twice, np.repeat([1, 0], len(x)), sample_weight=np.concatenate([target, 1 - target])
    )
    slope = float(model.coef_[0, 0]) / deviation
    return {"sigmoid": [float(slope), float(model.intercept_[0] - slope * mean)]}


def _isotonic(x: Floats, y: NDArray[np.bool_]) -> dict[str, list[float]]:
    model = _sklearn("isotonic").IsotonicRegression(y_min=0, y_max=1).fit(x, y)
    return {"scores": model.X_thresholds_.tolist(), "probabilities": model.y_thresholds_.tolist()}


def _sklearn(module: str) -> Any:
    try:
        return __import__(f"sklearn.{module}", fromlist=[module])
    except ImportError as error:
        raise PluginError("fitting a calibration needs pip install 'coembed-retrieval[calibrate]'") from error
