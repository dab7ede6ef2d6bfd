"""What the demo learns from: four sets of records, none of which has all seven towers, split so that nothing leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from coembed.nn.seeding import counter
from coembed.plugins import load
from coembed.sources import Record, Records, Source

TOWERS = ("text", "image", "code", "graph", "dna", "protein", "audio")
CANDIDATES = 1000  # held-out functions that compete, so that figures compare with published pilots
QUICK = 400

# The held-out sets, by name.
EMOJI, FUNCTIONS, GENES, SOUNDS = "emoji", "functions", "genes", "sounds"
SUBGROUPS, HIDDEN, FAMILIES = "emoji, subgroups", "functions, names hidden", "sounds, families"
HARDER = (HIDDEN, SUBGROUPS, FAMILIES)


@dataclass(frozen=True)
class Split:
    """Records to learn from, what of their towers learns together, and named sets that no group of them touches."""

    train: Records
    pairs: tuple[tuple[str, str], ...]
    held: Mapping[str, Records]


def splits(seed: int, quick: bool) -> list[Split]:
    """All that the seven towers learn from and are measured on."""
    return [emoji("base", seed, quick), functions(seed, quick), genes(seed), sounds("sound", seed)]


def harder(seed: int, quick: bool) -> list[Split]:
    """Splits that hold out whole kinds of things: subgroups of emoji and families of sounds."""
    return [emoji("subgroup", seed, quick), sounds("family", seed)]


def emoji(split_by: str, seed: int, quick: bool) -> Split:
    """Picture ↔ words of 1,911 emoji; `split_by` "base" keeps near-duplicates together, "subgroup" whole subgroups."""
    source: Source = load("samples/emoji", "source", split_by=split_by)
    # A tenth of the subgroups leaves about as many candidates as the pilot that the figures are compared with had.
    train, held = source.split(0.2 if split_by == "base" else 0.1, seed)
    # A subgroup is a label of the data set, not a class that search should find: retrieval is by the record alone.
    name = EMOJI if split_by == "base" else SUBGROUPS
    return Split(_some(train, QUICK * 2, seed, quick), (("image", "text"),), {name: _some(held, QUICK, seed, quick)})


def functions(seed: int, quick: bool) -> Split:
    """Docstring ↔ function ↔ syntax tree of the standard library, whole modules held out, names kept and hidden.

    Code and tree learn with the docstring alone: that they then find each other has emerged. Training keeps the names:
    training without them did no better on either test (tuned on other seeds).
    """
    train, held = _stdlib("kept").split(0.3, seed)
    test = _some(held, QUICK if quick else CANDIDATES, seed, True)
    bare = {record.id: record for record in _stdlib("hidden")}
    tests = {FUNCTIONS: test, HIDDEN: Records(bare[record.id] for record in test)}
    return Split(_some(train, QUICK * 2, seed, quick), (("text", "code"), ("text", "graph")), tests)


@cache
def _stdlib(name: str) -> Records:
    """Parsed once: every seed splits the same functions."""
    return Records(load("samples/stdlib", "source", name=name, towers=("text", "code", "graph")))


def genes(seed: int) -> Split:
    """DNA ↔ protein ↔ product of the 85 coding regions of a chloroplast, whole genes held out.

    DNA and text meet only through the protein, the same gene's.
    """
    train, held = load("samples/chloroplast", "source").split(0.3, seed)
    return Split(train, (("dna", "protein"), ("protein", "text")), {GENES: held})


def sounds(split_by: str, seed: int) -> Split:
    """Sound ↔ name of 130 samples; `split_by` "sound" keeps takes of one sound together, "family" whole families."""
    train, held = load("samples/sounds", "source", split_by=split_by).split(0.3, seed)
    return Split(train, (("audio", "text"),), {SOUNDS if split_by == "sound" else FAMILIES: held})


def strangers(splits: Sequence[Split]) -> list[tuple[str, str]]:
    """The pairs of towers that no record has both of: no honest pair exists to measure them with.

    Text is no bridge here: that an emoji and a sound share a word does not make them one thing.
    """
    together = {frozenset((a, b)) for split in splits for a in split.train.towers for b in split.train.towers}
    return [(a, b) for i, a in enumerate(TOWERS) for b in TOWERS[i + 1 :] if frozenset((a, b)) not in together]


def _some(source: Records, most: int, seed: int, cut: bool) -> Records:
    """The first records in an order that depends on the seed and the id alone."""
    if not cut or len(source) <= most:
        return source
    chosen = {record.id for record in sorted(source, key=lambda r: counter(seed, "some", r.id))[:most]}
    return Records(record for record in source if record.id in chosen)


def items(records: Sequence[Record] | Source, tower: str) -> list[object]:
    """A tower's items of the records that have it."""
    return [record[tower] for record in records if tower in record]
