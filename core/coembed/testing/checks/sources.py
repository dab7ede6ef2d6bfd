"""Checks on sources."""

from __future__ import annotations

from typing import Any

from coembed.items import content_key
from coembed.sources import Record, Source
from coembed.testing.subject import Broken, Subject, check, hold


def _facts(record: Record) -> tuple[Any, ...]:
    """What tells a record from another, its items' content included."""
    contents = {name: _content(item) for name, item in record.items.items()}
    return record.id, record.group, record.label, record.weight, contents


def _content(item: Any) -> object:
    try:
        return content_key(item)
    except TypeError:  # an item of a private kind: its type stands for it
        return type(item)


@check("source")
def iterates_again(subject: Subject) -> None:
    """Iterating twice gives the same records in the same order."""
    source: Source = subject.tiny()
    first = [_facts(record) for record in source]
    hold(first, "tiny() gives no record: let it have two groups or more")
    second = [_facts(record) for record in source]
    hold(
        first == second,
        f"the first pass gives {len(first)} records, the second {len(second)} or others: __iter__ must start anew, in "
        "one order",
    )


@check("source")
def counts_and_indexes(subject: Subject) -> None:
    """Length and positions agree with iteration; ids are unique; towers are those that records have."""
    source: Source = subject.tiny()
    records = list(source)
    hold(len(source) == len(records), f"len() says {len(source)}, iteration gives {len(records)}")
    for place in (0, len(records) // 2, len(records) - 1):
        hold(
            _facts(source[place]) == _facts(records[place]),
            f"source[{place}] is not what iteration gives at {place}: read both from one place",
        )
    seen: set[str] = set()
    for record in records:
        hold(record.id not in seen, f"the id {record.id!r} occurs twice: ids must be unique in a source")
        seen.add(record.id)
    found = {name for record in records for name in record.items}
    hold(
        set(source.towers) == found,
        f"towers says {', '.join(source.towers)}, records have {', '.join(sorted(found))}",
    )


@check("source")
def splits_by_group(subject: Subject) -> None:
    """No group is on two sides of a split, nothing is lost, and a seed splits alike every time."""
    source: Source = subject.tiny()
    try:
        train, held = source.split(0.5, seed=_seed(source))
    except ValueError as error:
        raise Broken(f"split(0.5) fails: {error}; let tiny() have two groups or more") from error
    sides = [{record.group or record.id for record in side} for side in (train, held)]
    both = sorted(sides[0] & sides[1])
    hold(not both, f"group {both[:1]} is on both sides of a split: keep to Source.split, or split by group")
    lost = {record.id for record in source} - {record.id for side in (train, held) for record in side}
    hold(not lost and len(train) + len(held) == len(source), f"{len(lost)} records are lost, or twice, in the split")
    again = subject.tiny().split(0.5, seed=_seed(source))[1]
    hold(
        [record.id for record in again] == [record.id for record in held],
        "the same seed splits differently: decide by a hash of the group",
    )


def _seed(source: Source) -> int:
    """A seed by which a small source has something on either side."""
    for seed in range(20):
        try:
            source.split(0.5, seed=seed)
        except ValueError:
            continue
        return seed
    return 0
