"""The fetched sets of `coembed-bench binding`: which records train two towers together, and which are held out."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coembed import Record, Records, load
from coembed.sources import Source
from coembed_bench.report import Failed

#: The sets, as `coembed-samples fetch` knows them.
SETS = ("genomes", "proteins", "wordnet", "instruments", "icons")
#: The pairs of towers that train together, and the source of each.
TRAINED = {
    ("protein", "text"): "proteins",
    ("dna", "protein"): "triples",
    ("graph", "text"): "wordnet",
    ("audio", "text"): "instruments",
    ("image", "text"): "icons",
}
#: Pairs that never train together, by what joins them: a gene, or a name that an icon and a word share.
EMERGENT = (("dna", "text"), ("image", "graph"))
#: The share of groups that is held out: 200 items or more of each set, and of the small ones no more than that.
HELD_OUT = {"proteins": 0.1, "triples": 0.1, "wordnet": 0.1, "instruments": 0.3, "icons": 0.15}
SECONDS, RATE = 1.0, 16_000  # of sound
MOST_HELD = 600  # of the words, so that one large branch does not decide


@dataclass(frozen=True)
class Split:
    """One seed's data: what trains each pair of towers, what is held out, and what joins image and graph."""

    train: Mapping[tuple[str, str], Source]
    held: Mapping[tuple[str, str], Source]


def read(*, words: int, proteins: int | None, icons: int | None) -> dict[str, Records]:
    """All records by source; `words` synsets are drawn beside those that an icon is named after.

    `proteins` and `icons` are most of their kind that are read (None: all), whole groups of them. Raises Failed naming
    the command for what is not fetched or not installed.
    """
    try:
        options: dict[str, dict[str, Any]] = {"instruments": {"seconds": SECONDS}}
        found: dict[str, Source] = {name: load(f"samples/{name}", **options.get(name, {})) for name in HELD_OUT}
    except FileNotFoundError as error:
        raise Failed(f"{error}; all of this benchmark's: `coembed-samples fetch {' '.join(SETS)}`") from error
    except ImportError as error:
        raise Failed(f"{error}; all that this benchmark needs: pip install 'coembed-bench[binding]'") from error
    pictures = _first_groups(found["icons"], icons)
    names = {record.label.replace("-", " ") for record in pictures if record.label}
    records = list(found["wordnet"])
    chosen = set(random.Random(0).sample([record.id for record in records], min(words, len(records))))
    near = [_labelled(record, names) for record in records]
    return {
        "proteins": _first_groups(found["proteins"], proteins),
        "triples": _first_groups(found["triples"], proteins),
        "wordnet": Records(_whole(r) for r in near if r.id in chosen or r.label is not None),
        "instruments": found["instruments"].map(_resampled),
        "icons": Records(replace(r, label=r.label and r.label.replace("-", " ")) for r in pictures),
    }


def split(sources: Mapping[str, Records], seed: int) -> Split:
    """Whole groups held out of each source, by a hash of the group and the seed.

    Proteins and triples have groups in common, so a held-out gene's DNA, protein and name are all unseen. Words that a
    held-out icon is named after do not train either, and are what image and graph are joined by.
    """
    parts = {name: sources[name].split(share, seed=seed) for name, share in HELD_OUT.items()}
    held = {pair: parts[name][1] for pair, name in TRAINED.items()}
    train = {pair: _only(parts[name][0], pair) for pair, name in TRAINED.items()}
    names = {record.label for record in held["image", "text"]} - {None}
    train["graph", "text"] = Records(r for r in train["graph", "text"] if r.label not in names)
    words = list(held["graph", "text"])
    held["graph", "text"] = Records(random.Random(seed).sample(words, min(MOST_HELD, len(words))))
    joined = [Record({"image": r["image"]}, id=r.id, group=r.group, label=r.label) for r in held["image", "text"]]
    joined += [
        Record({"graph": r["graph"]}, id=r.id, group=r.label, label=r.label)
        for r in sources["wordnet"]
        if r.label in names
    ]
    return Split(train, {**held, ("dna", "text"): held["dna", "protein"], ("image", "graph"): Records(joined)})


def _only(source: Source, pair: tuple[str, str]) -> Records:
    """The records with the pair's items alone: a triple has a name too, which must not train with its DNA."""
    return source.map(lambda r: Record({t: r[t] for t in pair}, id=r.id, group=r.group, label=r.label))


def _whole(record: Record) -> Record:
    """A synset's record with its graph made once and for all, not whenever it is looked up."""
    return replace(record, items=dict(record.items))


def _resampled(record: Record) -> Record:
    """A sound's record at the rate that its tower hears, not resampled at every step."""
    import torch
    from torchaudio.functional import resample

    wave, rate = record["audio"]
    return replace(
        record, items={**record.items, "audio": (resample(torch.from_numpy(wave), rate, RATE).numpy(), RATE)}
    )


def _labelled(record: Record, names: set[str]) -> Record:
    """A synset's record, labelled with the first of its words that is an icon's name, if one is."""
    words: Sequence[Any] = record.extra["words"]
    return replace(record, label=next((word for word in map(str.lower, words) if word in names), None))


def _first_groups(source: Source, most: int | None) -> Records:
    """The records of as many whole groups as hold about `most` records, drawn once and for all."""
    if most is None or most >= len(source):
        return Records(source)
    return source.split(most / len(source), seed=-1)[1]
