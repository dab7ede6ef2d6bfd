"""The demo, top to bottom: load, cache features, train, measure against baselines; for every seed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coembed
from coembed.demo import data, towers
from coembed.demo.data import Split
from coembed.demo.table import Figures, Row, rows_of
from coembed.encoder import Encoder
from coembed.evaluation import evaluate
from coembed.features import FeatureStore
from coembed.plugins import load
from coembed.sources import Records
from coembed.space import Space
from coembed.tasks import Contrast
from coembed.training.history import History


@dataclass
class Outcome:
    """What the demo found: a row a direction and held-out set, over the seeds; the first seed's space and data."""

    out: Path
    seeds: list[int]
    rows: list[Row]
    history: History
    space: Space
    splits: list[Split]


def run(out: Path, *, seeds: list[int], quick: bool, from_scratch: bool) -> Outcome:
    """Train and measure a space a seed, and a smaller one on harder splits; raises what loading or training raises."""
    store, begun = FeatureStore(), time.monotonic()
    encoders = towers.counts() if from_scratch else towers.frozen()
    introduce(encoders)
    plans = [(data.splits(seed, quick), data.harder(seed, quick)) for seed in seeds]
    if not from_scratch:
        cache([split for plan in plans for part in plan for split in part], encoders, store)
    say(f"Data and features: {time.monotonic() - begun:.0f} s")
    found: list[Figures] = []
    kept: tuple[Space, History] | None = None
    for seed, plan in zip(seeds, plans, strict=True):
        begun = time.monotonic()
        figures = Figures()
        say(f"\nSeed {seed}: " + ", ".join(f"{len(s.train)} {' + '.join(s.train.towers)}" for s in plan[0]))
        for splits in plan:
            space = towers.scratch(encoders, splits, seed) if from_scratch else towers.bind(encoders, seed)
            history = learn(space, splits, figures, seed, towers.SCRATCH if from_scratch else towers.FROZEN, store)
            kept = kept or (space, history)
        figures.lexical = words(plan[0][1])
        found.append(figures)
        say(f"Seed {seed}: {time.monotonic() - begun:.0f} s")
    assert kept is not None
    rows = rows_of(found, zero_shot=not from_scratch)
    kept[0].card["figures"] = {f"{row.held}: {row.direction}": row.card() for row in rows}
    return Outcome(out, seeds, rows, kept[1], kept[0], plans[0][0])


def introduce(encoders: Mapping[str, Encoder]) -> None:
    """Say what the towers are; those without an encoder yet are made anew for every seed."""
    say("Seven towers, each under a linear head that trains:")
    fresh = towers.small(0)
    for name in data.TOWERS:
        encoder = encoders.get(name) or fresh.get(name)
        how = "trains whole, from random weights"
        if name in encoders:
            source = encoders[name].source
            how = f"frozen, weights from {source}" if source else "frozen, nothing in it to train"
        say(f"  {name:8} {encoder.spec.name if encoder else 'a small transformer'}, {how}")
    say(f"Functions are read to their first {towers.CODE_TOKENS} tokens: half the time, and enough to tell them apart.")


def cache(splits: Sequence[Split], encoders: Mapping[str, Encoder], store: FeatureStore) -> None:
    """Features of all frozen towers, once for all seeds; a second run of the demo finds them there."""
    say(f"Features of the frozen towers, computed once and kept in {store.root}:")
    space = Space({name: coembed.Tower(encoder, "linear", dim=towers.DIM) for name, encoder in encoders.items()})
    for name in space:
        begun = time.monotonic()
        read = [
            item for split in splits for part in (split.train, *split.held.values()) for item in data.items(part, name)
        ]
        store.features(space[name], read, progress=True)
        say(f"  {name:8} {time.monotonic() - begun:.0f} s")


def learn(
    space: Space, splits: Sequence[Split], figures: Figures, seed: int, settings: dict[str, Any], store: FeatureStore
) -> History:
    """One space: figures before, training, figures after."""
    held = {name: records for split in splits for name, records in split.held.items()}
    figures.untrained |= measure(space, held, store)
    tasks = [Contrast(split.train, split.train.towers, pairs=split.pairs) for split in splits]
    rates = settings["lr"]
    if isinstance(rates, Mapping):
        there = {tower for task in tasks for tower in task.towers}
        settings = settings | {"lr": {name: rate for name, rate in rates.items() if name in there or name == "*"}}
    history = coembed.fit(space, tasks=tasks, seed=seed, cache=store, progress=True, **settings)
    figures.trained |= measure(space, held, store)
    return history


def measure(space: Space, held: Mapping[str, Records], store: FeatureStore | None) -> dict[str, dict[str, Any]]:
    """Figures by held-out set and direction, query by query."""
    with space.cached(store):
        return {name: evaluate(space, records, queries=True) for name, records in held.items()}


def words(functions: Split) -> dict[str, dict[str, Any]]:
    """What shared words alone find: text and code have them in common."""
    lexicon = load("text/tfidf", "encoder")
    lexicon.fit([*data.items(functions.train, "text"), *data.items(functions.train, "code")])
    return measure(Space({"text": lexicon, "code": lexicon}), functions.held, None)


def say(text: str, end: str = "\n") -> None:
    """A line for the person who watches."""
    print(text, end=end, flush=True)
