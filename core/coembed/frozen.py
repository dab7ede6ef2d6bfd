"""What a run knows of its records before it starts: the features of frozen towers, and a digest of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from coembed.embedding import Embedding
from coembed.features import FeatureStore
from coembed.items import content_key
from coembed.sources import Record
from coembed.tasks import Contrast, Task

if TYPE_CHECKING:
    from coembed.space import Space

# By tower: where a record's row is, and the features of all records that have the tower.
Features = dict[str, tuple[dict[int, int], Embedding]]


def frozen_features(
    space: Space,
    tasks: Sequence[Task],
    records: Sequence[Sequence[Record]],
    store: FeatureStore | None,
    progress: bool,
) -> dict[int, Features]:
    """By task and tower: where a record's row is, and the features of all records that have the tower."""
    found: dict[int, Features] = {}
    if store is None:
        return found
    for index, task in enumerate(tasks):
        roles = task.roles if isinstance(task, Contrast) else {}
        for name in task.towers if isinstance(task, Contrast) else ():
            tower = space[name]
            if not tower.frozen:
                continue
            at = [i for i, record in enumerate(records[index]) if name in record]
            prompt = tower.encoder.prompt_for(roles.get(name))
            items = [records[index][i][name] for i in at]
            features = store.features(tower, items, prompt=prompt, progress=progress)
            found.setdefault(index, {})[name] = ({i: row for row, i in enumerate(at)}, features)
    return found


def digest(records: Sequence[Record]) -> str:
    """What tells a changed data set from the same one: ids and contents, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for record in records:
        digest.update(repr((record.id, record.weight)).encode())
        for name, item in record.items.items():
            try:
                digest.update(name.encode() + content_key(item))
            except TypeError:  # an item of a private kind: its id stands for it
                digest.update(name.encode())
    return digest.hexdigest()
