"""Joined: several sources as one, so that a batch can hold records of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coembed.sources.base import Record, Records, Source


def joined(sources: Mapping[str, Source]) -> Records:
    """The records of several sources, by name: ids and groups get it in front, and `extra["source"]` says which one.

    `batches={"homogeneous": "source"}` of a contrast then keeps each batch to one of them.

    >>> both = joined({"x": Records.pairs(a=[1]), "y": Records.pairs(a=[2])})
    >>> [(record.id, record.extra["source"]) for record in both]
    [('x:0', 'x'), ('y:0', 'y')]
    """

    def named(name: str, record: Record) -> Record:
        group = None if record.group is None else f"{name}:{record.group}"
        return replace(record, id=f"{name}:{record.id}", group=group, extra={**record.extra, "source": name})

    return Records(named(name, record) for name, source in sources.items() for record in source)
