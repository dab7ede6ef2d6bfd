"""The demo, top to bottom: load, cache features, train, measure against baselines, save, search, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coembed
from coembed.demo import data, towers
from coembed.demo.table import Row, rows_of
from coembed.evaluation import evaluate
from coembed.features import FeatureStore
from coembed.history import History
from coembed.plugins import load
from coembed.sources import Records, Source
from coembed.space import Space
from coembed.tasks import Contrast

# Chosen on splits of other seeds (10 to 14) than those that are reported. Text and code start from a space that they
# share already, so their heads move slowly; longer training overfits the few pictures.
FROZEN = {"epochs": 8, "batch_size": 256, "lr": {"image": 3e-3, "*": 3e-4}, "weight_decay": 0.01}
SCRATCH = {"epochs": 6, "batch_size": 64, "lr": 1e-3, "weight_decay": 0.05}


@dataclass
class Outcome:
    """What the demo found: one row a direction and held-out set, over the seeds, and where everything is."""

    out: Path
    seeds: list[int]
    rows: list[Row]
    seconds: float
    history: History
    space: Space


@dataclass
class Measured:
    """Figures of one seed by held-out set: trained, untrained, zero-shot and lexical, each by direction."""

    trained: dict[str, Any] = field(default_factory=dict)
    untrained: dict[str, Any] = field(default_factory=dict)
    zeroshot: dict[str, Any] = field(default_factory=dict)
    tfidf: dict[str, Any] = field(default_factory=dict)


def run(out: Path, *, seeds: list[int], quick: bool, from_scratch: bool) -> Outcome:
    """Run it and write OUT/space, its indexes, pictures and report.html; raises what loading or training raises."""
    began = time.monotonic()
    say(f"Towers: {'small, from scratch' if from_scratch else 'real checkpoints, frozen, with linear heads'}")
    encoders = {} if from_scratch else dict(_encoders(towers.frozen(seeds[0])))
    for name, encoder in encoders.items():
        say(f"  {name:6} {encoder.spec.name}, {encoder.dim} dimensions, weights from {encoder.source}")
    say(f"Functions are read to their first {towers.CODE_TOKENS} tokens: half the time, and enough to tell them apart.")
    store = FeatureStore()
    measured: list[Measured] = []
    kept: tuple[Space, History] | None = None
    for seed in seeds:
        code = data.functions(seed, quick)
        found = Measured()
        for split_by in ("base", "subgroup"):
            pictures = data.emoji(split_by, seed, quick)
            say(f"\nSeed {seed}: {len(pictures.train)} pictures with words ({next(iter(pictures.held))}), ", end="")
            say(f"{len(code.train)} docstrings with functions")
            space = towers.scratch(seed, pictures.train, code.train) if from_scratch else towers.heads(encoders, seed)
            held = {**pictures.held, **(code.held if split_by == "base" else {})}
            history = _train_and_measure(space, pictures, code, held, found, seed, from_scratch, store)
            if kept is None:
                kept = (space, history)
        _baselines(code, found, encoders, store)
        measured.append(found)
    assert kept is not None
    rows = rows_of([vars(found) for found in measured])
    kept[0].card["figures"] = {f"{row.held}: {row.direction}": row.card() for row in rows}
    return Outcome(out, seeds, rows, time.monotonic() - began, kept[1], kept[0])


def _encoders(space: Space) -> dict[str, Any]:
    return {name: space[name].encoder for name in space}


def _train_and_measure(
    space: Space,
    pictures: data.Split,
    code: data.Split,
    held: Mapping[str, Records],
    found: Measured,
    seed: int,
    from_scratch: bool,
    store: FeatureStore,
) -> History:
    """One space: figures before, training, figures after."""
    for name, records in held.items():
        found.untrained[name] = _figures(space, records, store)
    tasks = [Contrast(pictures.train, ("image", "text")), Contrast(code.train, ("text", "code"))]
    settings = SCRATCH if from_scratch else FROZEN
    history = coembed.fit(space, tasks=tasks, seed=seed, cache=store, progress=True, **settings)
    for name, records in held.items():
        found.trained[name] = _figures(space, records, store)
    return history


def _figures(space: Any, records: Source, store: FeatureStore | None) -> dict[str, Any]:
    if isinstance(space, Space):
        with space.cached(store):
            return evaluate(space, records, progress=False)
    return evaluate(space, records)


def _baselines(code: data.Split, found: Measured, encoders: Mapping[str, Any], store: FeatureStore) -> None:
    """Text and code have two baselines that need no training here: the checkpoint as it is, and shared words."""
    words = load("text/tfidf", "encoder")
    words.fit([*data.items(code.train, "text"), *data.items(code.train, "code")])
    lexical = Space({"text": words, "code": words})
    alone = Space({"text": encoders["text"], "code": encoders["code"]}) if encoders else None
    for name, records in code.held.items():
        found.tfidf[name] = _figures(lexical, records, None)
        if alone is not None:
            found.zeroshot[name] = _figures(alone, records, store)


def say(text: str, end: str = "\n") -> None:
    """A line for the person who watches."""
    print(text, end=end, flush=True)
