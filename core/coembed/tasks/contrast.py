"""Contrast: towers' views of one record are pulled together, those of others pushed apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from coembed.columns import Batch, linked
from coembed.depths import Cut, cuts_of, exits_of
from coembed.embedding import Embedding
from coembed.objectives import Objective
from coembed.plugins import build
from coembed.sources import Record, Source
from coembed.tasks.base import Embed, Task

if TYPE_CHECKING:
    from coembed.space import Space

SAME = ("content", "id", "label", "group")


class Contrast(Task):
    """Pull the towers' views of a record together, push those of other records apart.

    With more than two towers every pair of them is a term (or those of `pairs`), over the records that have both: a
    record may lack any. `pairs` as a mapping gives each pair its weight in the loss: {("dna", "text"): 2.0, …}.
    `objective` is a registered name or an object; each pair of towers shares it. `same` says which rows are one thing
    and so no negatives of each other: "content" (an item of either side is equal), "id", "label" or "group". `roles`
    gives towers the prompt of a role. Raises ValueError for a pair of other towers or a weight that is not positive.

    >>> from coembed.sources import Records
    >>> task = Contrast(Records.pairs(image=[0, 1], text=["a", "b"]), ("image", "text"))
    >>> task.describe()["objective"]
    'infonce'
    """

    def __init__(
        self,
        source: Source,
        towers: Sequence[str],
        objective: str | Objective = "infonce",
        *,
        weight: float = 1.0,
        pairs: Sequence[tuple[str, str]] | Mapping[tuple[str, str], float] | None = None,
        same: str = "content",
        roles: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(source, towers, weight=weight)
        if len(set(towers)) < 2:
            raise ValueError(f"a contrast needs two different towers or more, got {tuple(towers)}")
        if same not in SAME:
            raise ValueError(f"same={same!r}: use one of {', '.join(SAME)}")
        self.objective: Objective = build("objective", objective)
        chosen = pairs if pairs is not None else tuple(combinations(self.towers, 2))
        self.pairs = dict(chosen) if isinstance(chosen, Mapping) else dict.fromkeys(chosen, 1.0)
        _check_pairs(self.pairs, self.towers)
        self.same = same
        self.roles = dict(roles or {})

    def prepare(self, space: Space) -> None:
        """Towers and roles must be there."""
        super().prepare(space)
        self._encoders = {tower: space[tower].encoder for tower in self.towers}
        for tower, role in self.roles.items():
            self._encoders[tower].prompt_for(role)

    @property
    def dims(self) -> tuple[int, ...]:
        """The objective's."""
        return self.objective.dims

    def cuts(self, space: Space, tower: str) -> tuple[Cut, ...]:
        """The objective's, in the tower's own layers."""
        return cuts_of(self.objective, [space[name] for name in self.towers], space[tower])

    def usable(self, record: Record) -> bool:
        """Whether the record has both sides of some pair."""
        return any(a in record and b in record for a, b in self.pairs)

    def loss(self, records: Sequence[Record], embed: Embed, space: Space) -> Tensor:
        """Mean over the pairs of towers that records of the batch have, by the pairs' weights."""
        exits = exits_of(self.objective, [space[tower] for tower in self.towers])
        embed = embed if exits is None else partial(embed, exits=exits)
        batch = Batch.of(records)
        rows = {tower: batch.rows(tower) for tower in self.towers}
        embedded = {tower: embed(tower, at, self.roles.get(tower)) for tower, at in rows.items() if at}
        terms, shares = [], []
        for (a, b), share in self.pairs.items():
            both = batch.rows(a, b)
            if not both:
                continue
            left, right = (_chosen(embedded[tower], rows[tower], both) for tower in (a, b))
            device = left.values.device
            keys = self._keys(batch, both, (a, b))
            keys = keys if keys is None else keys.to(device)
            terms.append(self.objective(left, right, weights=batch.weights(both).to(device), keys=keys) * share)
            shares.append(share)
        if not terms:
            raise ValueError(f"no two of {len(records)} records share two of the towers {', '.join(self.towers)}")
        return torch.stack(terms).sum() / sum(shares)

    def _keys(self, batch: Batch, rows: Sequence[int], towers: tuple[str, str]) -> Tensor | None:
        """Rows that are one thing get one number; None if no two are."""
        if self.same == "content":
            some = [tower for tower in towers if not batch.columns.distinct(tower)]
            return linked([batch.numbers(tower, rows, partial(self._content, tower)) for tower in some])
        return linked([batch.numbers(f"same {self.same}", rows, self._name)])

    def _content(self, tower: str, record: Record) -> bytes:
        try:
            return self._encoders[tower].key(record[tower])
        except TypeError:  # an item without a content key equals only itself
            return f"{tower}:{record.id}".encode()

    def _name(self, record: Record) -> str:
        return getattr(record, self.same) or record.id

    def describe(self) -> dict[str, Any]:
        """As Task.describe, with the objective, the pairs that some record has both sides of, and the source's size."""
        spec = self.objective.spec
        options = spec.kwargs if spec else {}
        there = [pair for pair in self.pairs if any(pair[0] in record and pair[1] in record for record in self.source)]
        return {
            **super().describe(),
            "objective": spec.name if spec else type(self.objective).__name__,
            "options": {k: v for k, v in options.items() if isinstance(v, (str, int, float, bool))},
            "pairs": [list(pair) for pair in there],
            "pair_weights": [self.pairs[pair] for pair in there],
            "same": self.same,
            "roles": self.roles,
            "records": len(self.source),
        }


def _check_pairs(pairs: Mapping[tuple[str, str], float], towers: Sequence[str]) -> None:
    if not pairs:
        raise ValueError("a contrast needs a pair of towers or more: pairs=None takes them all")
    for pair, weight in pairs.items():
        if len(set(pair)) != 2 or not set(pair) <= set(towers):
            raise ValueError(f"pair {pair} is not of two of the contrast's towers, {', '.join(towers)}")
        if not 0 < weight < math.inf:
            raise ValueError(f"pair {pair}: weight {weight} must be positive and finite; leave the pair out instead")


def _chosen(embedded: Embedding, rows: Sequence[int], chosen: Sequence[int]) -> Embedding:
    """Of what was embedded for `rows`, the `chosen` ones; without a copy where that is all."""
    if len(chosen) == len(rows):
        return embedded
    place = {row: k for k, row in enumerate(rows)}
    return embedded[torch.tensor([place[row] for row in chosen])]
