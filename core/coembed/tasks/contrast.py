"""Contrast: towers' views of one record are pulled together, those of others pushed apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from coembed.depths import Cut, cuts_of, exits_of
from coembed.embedding import Embedding
from coembed.moment import current
from coembed.objectives import Objective
from coembed.plugins import build
from coembed.sources import Record, Source
from coembed.tasks.base import Embed, Task
from coembed.tasks.negatives import Banks, further, left_out
from coembed.training import batches as ways
from coembed.training.bank import Memory
from coembed.training.columns import Batch, Columns
from coembed.training.locality import Locality
from coembed.training.mining import Mined, Miner, negatives_given
from coembed.training.neighbours import Neighbours
from coembed.training.same import SAME, Same

if TYPE_CHECKING:
    from coembed.space import Space


class Contrast(Task):
    """Pull the towers' views of a record together, push those of other records apart.

    With more than two towers every pair of them is a term (or those of `pairs`), over the records that have both: a
    record may lack any. `pairs` as a mapping gives each pair its weight in the loss: {("dna", "text"): 2.0, …}.
    `objective` is a registered name or an object; each pair of towers shares it. `same` says which rows are one thing
    and so no negatives of each other: "content" (an item of either side is equal), "id", "label" or "group". `roles`
    gives towers the prompt of a role.

    Of one pair of towers, `negatives` are hard negatives beside those of the batch: mined ones, the file they are in,
    or a miner that looks when a stage begins. Each is a negative of every row that it is not the same thing as; with
    `in_batch=False` a row has its own hard negatives only, which a's side alone asks against: `directions="a->b"` of an
    objective leaves out the other side. `memory` keeps that many target vectors of earlier batches as negatives.
    `batches` says how records are put together: "mixed", {"homogeneous": "label"}, or `coembed.training.locality`.
    Raises ValueError for a pair of other towers, a weight that is not positive and negatives that do not fit.

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
        negatives: Mined | Miner | str | Path | Mapping[str, Any] | None = None,
        in_batch: bool = True,
        memory: Memory | int | None = None,
        batches: str | Mapping[str, Any] | ways.Batches = "mixed",
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
        self.in_batch = in_batch
        self.negatives: Neighbours | None = None
        if negatives is not None:
            given = negatives_given(negatives)
            self.negatives = Neighbours(given, *self._pair(given))
        if not in_batch and (self.negatives is None or memory is not None or len(self.pairs) > 1):
            raise ValueError("in_batch=False leaves a row its own hard negatives: give negatives=, one pair, no memory")
        self.banks = Banks(memory, {target for _, target in self.pairs})
        self.batches = ways.given(batches)
        if isinstance(self.batches, Locality):
            self.batches.between(*self._pair(self.batches.given))
        if len({(some.query, some.target) for some in self._neighbours()}) > 1:
            raise ValueError("negatives and locality batches must be for the same pair of towers")

    def _pair(self, given: Mined | Miner) -> tuple[str, str]:
        """The pair of towers that negatives are for."""
        pair = (given.query, given.target)
        if None in pair and len(self.pairs) == 1:
            return next(iter(self.pairs))
        if pair not in self.pairs:
            there = ", ".join(f"{a} -> {b}" for a, b in self.pairs)
            raise ValueError(f"negatives are for one pair of towers, query -> target: {pair} given, there are {there}")
        return given.query, given.target  # type: ignore[return-value]

    def changed(
        self,
        objective: str | Objective | None = None,
        negatives: Mined | Miner | str | Path | Mapping[str, Any] | None = None,
        in_batch: bool | None = None,
        memory: Memory | int | None = None,
        batches: str | Mapping[str, Any] | ways.Batches | None = None,
    ) -> Contrast:
        """The same contrast with other parts; what is None stays, an objective with what it has learned."""
        before = self.negatives.given if self.negatives is not None else None
        return Contrast(
            self.source,
            self.towers,
            self.objective if objective is None else objective,
            weight=self.weight,
            pairs=self.pairs,
            same=self.same,
            roles=self.roles,
            negatives=before if negatives is None else negatives,
            in_batch=self.in_batch if in_batch is None else in_batch,
            memory=self.banks.memory if memory is None else memory,
            batches=deepcopy(self.batches) if batches is None else batches,
        )

    def prepare(self, space: Space) -> None:
        """Towers and roles must be there, and a memory must fit the objective; raises ValueError where it does not."""
        super().prepare(space)
        self._encoders = {tower: space[tower].encoder for tower in self.towers}
        for tower, role in self.roles.items():
            self._encoders[tower].prompt_for(role)
        self.cuts(space, self.towers[0])  # layers that the towers lack, said before the long work
        self._same = Same(self.same, self._encoders)
        self.banks.prepare(space, self.objective)

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

    def candidate(self, record: Record) -> bool:
        """Whether the record has the target that negatives are looked for in."""
        return any(some.target in record for some in self._neighbours())

    def _neighbours(self) -> list[Neighbours]:
        return [some for some in (self.negatives, self.batches.neighbours) if some is not None]

    def attach(self, columns: Columns) -> None:
        """Look up the records' hard negatives."""
        super().attach(columns)
        if self.negatives is not None:
            self.negatives.attach(columns)

    def refresh(self, space: Space, columns: Columns, progress: bool) -> None:
        """Let the miners look."""
        for some in self._neighbours():
            some.refresh(space, columns, self.same, self.roles, progress)

    @property
    def further(self) -> int:
        """The negatives of a row, drawn ones and those of its batch."""
        own = self.negatives.width if self.negatives is not None else 0
        return own + (self.batches.neighbours is not None)

    def hard(self, columns: Columns, at: Sequence[int], seed: int) -> Tensor | None:
        """Of the negatives of each record those that this step draws."""
        return None if self.negatives is None else self.negatives.drawn(torch.tensor(at), seed)

    def loss(self, records: Sequence[Record], embed: Embed, space: Space) -> Tensor:
        """Mean over the pairs of towers that records of the batch have, by the pairs' weights."""
        exits = exits_of(self.objective, [space[tower] for tower in self.towers])
        embed = embed if exits is None else partial(embed, exits=exits)
        batch, step = Batch.of(records), current().step
        rows = {tower: batch.rows(tower) for tower in self.towers}
        hard = next((some for some in self._neighbours()), None)
        if hard is not None:
            rows[hard.target] = [*rows[hard.target], *batch.extra]
        embedded = {tower: embed(tower, at, self.roles.get(tower)) for tower, at in rows.items() if at}
        terms, shares = [], []
        for (a, b), share in self.pairs.items():
            both = batch.rows(a, b)
            if not both:
                continue
            left, right = (_chosen(embedded[tower], rows[tower], both) for tower in (a, b))
            device = left.values.device
            extra = batch.extra if hard is not None and (a, b) == (hard.query, hard.target) else range(0)
            more = [(_chosen(embedded[b], rows[b], extra), batch.positions(extra))] if extra else []
            negatives, beyond = further([*more, *self.banks.taken(b, step, right)])
            at = batch.positions(both)
            numbers = self._same.numbers(batch.columns, torch.cat([at, beyond]), (a, b), twice=len(beyond) > 0)
            keys, mask = left_out(at, beyond, numbers, None if self.in_batch else batch.hard_of(both), device)
            weights = batch.weights(both).to(device)
            given = {"weights": weights, "keys": keys, "mask": mask, "negatives": negatives}
            terms.append(self.objective(left, right, **given) * share)
            shares.append(share)
        if not terms:
            raise ValueError(f"no two of {len(records)} records share two of the towers {', '.join(self.towers)}")
        for tower in self.banks.targets & embedded.keys():
            drawn = batch.rows(tower)
            self.banks.push(tower, _chosen(embedded[tower], rows[tower], drawn), batch.positions(drawn), step)
        return torch.stack(terms).sum() / sum(shares)

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
            **({"negatives": self.negatives.describe()} if self.negatives is not None else {}),
            **({} if self.in_batch else {"in_batch": False}),
            **({"memory": self.banks.memory.describe()} if self.banks.memory is not None else {}),
            **(self.batches.describe() if not isinstance(self.batches, ways.Mixed) else {}),
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
