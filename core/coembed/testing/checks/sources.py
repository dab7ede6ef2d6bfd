"""Checks on sources."""

from __future__ import annotations

from coembed.sources import Record, Source
from coembed.testing.cases import Subject, check


def _facts(record: Record) -> tuple[object, ...]:
    return (record.id, record.group, record.label, record.weight, tuple(record.items))


@check("source")
def iterates_again(subject: Subject) -> None:
    """Iterating twice gives the same records in the same order."""
    source: Source = subject.tiny()
    first = [_facts(record) for record in source]
    assert first, "the source gives no record"
    assert first == [_facts(record) for record in source], "the second pass gives other records"


@check("source")
def counts_and_indexes(subject: Subject) -> None:
    """Length and positions agree with iteration; ids are unique; towers are those that records have."""
    source: Source = subject.tiny()
    records = list(source)
    assert len(source) == len(records), f"len says {len(source)}, iteration gives {len(records)}"
    for place in (0, len(records) // 2, len(records) - 1):
        assert _facts(source[place]) == _facts(records[place]), f"source[{place}] is not record {place} of iteration"
    assert len({record.id for record in records}) == len(records), "record ids are not unique"
    assert set(source.towers) == {name for record in records for name in record.items}, "towers differ from records'"


@check("source")
def splits_by_group(subject: Subject) -> None:
    """No group is on two sides of a split, nothing is lost, and the same seed splits alike."""
    source: Source = subject.tiny()
    train, held = source.split(0.5, seed=1)
    sides = [{record.group or record.id for record in side} for side in (train, held)]
    assert not sides[0] & sides[1], f"groups on both sides: {sorted(sides[0] & sides[1])[:3]}"
    assert len(train) + len(held) == len(source), "records were lost in the split"
    assert [r.id for r in source.split(0.5, seed=1)[1]] == [r.id for r in held], "the same seed splits differently"
