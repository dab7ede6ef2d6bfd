"""What a run knows of its records before it starts: the features of frozen towers, and a digest of the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from coembed.embedding import Embedding
from coembed.encoder import Encoder
from coembed.features import FeatureStore
from coembed.items import content_key
from coembed.rows import Cached, Rows
from coembed.sharing import ALONE, Share
from coembed.tasks import Contrast, Task
from coembed.training.columns import Columns

if TYPE_CHECKING:
    from coembed.space import Space

Features = dict[str, Cached]  # by tower
SAMPLE = 100_000  # rows that an aligner sees at most before training: 150 MB at width 384


def frozen_features(
    space: Space,
    tasks: Sequence[Task],
    columns: Sequence[Columns],
    store: FeatureStore | None,
    progress: bool,
    share: Share = ALONE,
) -> dict[int, Features]:
    """By task and tower: the features of all records that have the tower, mapped, or on the GPU if they fit there.

    With a `share` only that part of the records is looked at: several processes fill a store faster than one.
    """
    found: dict[int, Features] = {}
    if store is None:
        return found
    for index, task in enumerate(tasks):
        if not isinstance(task, Contrast):
            continue
        some = columns[index]
        for name in task.towers:
            tower = space[name]
            if not tower.frozen:
                continue
            at = some.having(name).nonzero().flatten()
            part = at[share.part(len(at))].tolist()
            items = [some.records[i].items[name] for i in part]
            try:
                keys = some.keys(name, tower.encoder)[1][share.part(len(at))]
            except TypeError:  # the store says so
                keys = None
            prompt = tower.encoder.prompt_for(task.roles.get(name))
            rows = store.rows(tower, items, keys=keys, prompt=prompt, progress=progress)
            if isinstance(rows, Rows):
                rows = rows.resident(tower.encoder.device)
            places = torch.full((len(some),), -1)
            places[part] = torch.arange(len(part))
            found.setdefault(index, {})[name] = Cached(places, rows)
    return found


def sample(parts: Iterable[Cached], limit: int = SAMPLE) -> Embedding:
    """All rows of a tower over the tasks, in order; of more than `limit` an even sample, the same each time."""
    rows = [part.rows for part in parts]
    total = sum(map(len, rows))
    found = []
    for some in rows:
        at = np.unique(np.linspace(0, len(some) - 1, max(1, limit * len(some) // total)).round().astype(np.int64))
        whole = total <= limit
        found.append(some[:] if whole else some[torch.from_numpy(at)])
    return Embedding.cat(found)


def digest(records: Columns, encoders: Mapping[str, Encoder]) -> str:
    """What tells a changed data set from the same one: ids, groups, labels, weights and contents, in order.

    `encoders` are those of frozen towers, whose items' keys are computed anyway; an item of a private kind, without a
    key, is stood for by its id.
    """
    digest = hashlib.blake2b(digest_size=16)
    for field in ("id", "group", "label"):
        digest.update(json.dumps([getattr(record, field) for record in records.records]).encode())
    digest.update(records.weights.numpy().data)
    for name in sorted({name for record in records.records for name in record.items}):
        having = records.having(name)
        digest.update(name.encode() + having.numpy().tobytes())
        digest.update(_contents(records, name, encoders.get(name)))
    return digest.hexdigest()


def _contents(records: Columns, name: str, encoder: Encoder | None) -> bytes:
    if encoder is not None:
        try:
            return records.keys(name, encoder)[1].tobytes()
        except TypeError:
            pass
    parts = []
    for record in records.records:
        if name in record.items:
            try:
                parts.append(content_key(record.items[name]))
            except TypeError:
                parts.append(b"-")
    return b"".join(parts)
