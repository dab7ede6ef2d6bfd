"""Neighbours: the hard negatives of a task's records, as a run uses them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from coembed.nn.seeding import counter
from coembed.plugins import CoembedWarning
from coembed.training.candidates import search
from coembed.training.columns import Columns
from coembed.training.mining import Mined, Miner
from coembed.training.steady import Steady

if TYPE_CHECKING:
    from coembed.space import Space


class Neighbours(Steady):
    """For every record of a task the positions of its hard negatives, `[N, k]`, nearest first, -1 for none.

    `given` are mined ones, or a miner that a run lets look at the start of each stage. What a miner found is in the
    run's checkpoints: a run that goes on in the middle of a stage can't look again with the weights of its start.
    """

    table: Tensor

    def __init__(self, given: Mined | Miner, query: str, target: str) -> None:
        super().__init__()
        self.given, self.query, self.target = given, query, target
        self.register_buffer("table", torch.zeros(0, 0, dtype=torch.int32), persistent=isinstance(given, Miner))

    @property
    def width(self) -> int:
        """How many negatives a row of a batch gets at most."""
        most = self.given.k if isinstance(self.given, Miner) else self.given.width
        return min(most, self.given.draw or most)

    def attach(self, columns: Columns) -> None:
        """Make room for, or look up, the negatives of these records.

        Those that are not among them are left out with a warning; raises ValueError if that leaves none.
        """
        most = self.given.k if isinstance(self.given, Miner) else self.given.width
        table = torch.full((columns.drawn, most), -1, dtype=torch.int32)
        if isinstance(self.given, Mined):
            there = [(i, r.id) for i, r in enumerate(columns.records) if self.target in r]
            places, wanted, kept = {name: i for i, name in there}, 0, 0
            for row, record in enumerate(columns.records[: columns.drawn]):
                names = self.given.ids.get(record.id, ())
                found = [places[name] for name in names if name in places]
                table[row, : len(found)] = torch.tensor(found, dtype=torch.int32)
                wanted, kept = wanted + len(names), kept + len(found)
            if not kept:
                raise ValueError(
                    f"no record of the task has a hard negative: of {wanted} that are named none is a record with a "
                    f"{self.target} in its source; mine in the records that train"
                )
            if kept < wanted:
                what = f"{wanted - kept} of {wanted} hard negatives are left out: they are not among the task's records"
                warnings.warn(f"{what} (held out, or of another source)", CoembedWarning, stacklevel=2)
        self.table = table.to(self.table.device)

    def refresh(self, space: Space, columns: Columns, same: str, roles: Mapping[str, str], progress: bool) -> None:
        """Let a miner look, with the space as it is now."""
        if isinstance(self.given, Miner):
            found = search(
                space, columns, self.query, self.target, self.given.rule(same), roles=roles, progress=progress
            )  # fmt: skip
            self.table.fill_(-1)
            self.table[found.rows] = found.table.to(self.table)

    def drawn(self, at: Tensor, seed: int) -> Tensor:
        """`[B, draw]` negatives of the records at `at`, a function of the seed."""
        found = self.table[at.to(self.table.device)].cpu().long()
        if self.given.draw is None or self.given.draw >= found.shape[1]:
            return found
        bits = np.random.Philox(key=counter(seed, "negatives"))
        lots = torch.from_numpy(np.random.Generator(bits).random(found.shape)).masked_fill(found < 0, 2.0)
        chosen = lots.argsort(dim=1, stable=True)[:, : self.given.draw].sort(dim=1).values
        return found.gather(1, chosen)

    def describe(self) -> dict[str, Any]:
        """What tells a changed run from the same one."""
        return {**self.given.describe(), "query": self.query, "target": self.target}
