"""Depths: which blocks of each tower an objective over layers sees, and vectors of several layers in one Embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from coembed.embedding import Embedding

if TYPE_CHECKING:
    from coembed.objectives import Objective
    from coembed.tower import Tower

Cut = tuple[int | None, int]  # (layer, width); None: the full depth


@dataclass(frozen=True)
class Exits:
    """The layers that a step wants, counted on the deepest tower, whose `depth` is the last of them."""

    depth: int
    layers: tuple[int, ...]

    def of(self, tower: Tower) -> tuple[int, ...]:
        """The blocks of a tower that answer for the layers; empty where it gives its full depth only."""
        return tuple(at_depth(layer, self.depth, tower.encoder.layers or 0) for layer in self.layers if exiting(tower))


def at_depth(layer: int, depth: int, own: int) -> int:
    """The block of an encoder of `own` blocks that lies as deep as `layer` of `depth`, rounded up.

    >>> [at_depth(layer, 6, 4) for layer in (1, 2, 3, 6)]
    [1, 2, 2, 4]
    """
    return -(-layer * own // depth)


def exiting(tower: Tower) -> bool:
    """Whether a tower trains at several depths: its encoder trains and has early exits; features are cached else."""
    return not tower.frozen and bool(tower.encoder.layers)


def exits_of(objective: Objective, towers: Sequence[Tower]) -> Exits | None:
    """What an objective wants in this step, None for the full depth alone; may draw from torch's generator.

    Raises ValueError if it trains layers that no tower has.
    """
    if not objective.layered:
        return None
    depth = _deepest(objective, towers)
    layers = tuple(objective.exits(depth))
    return None if layers in ((), (depth,)) else Exits(depth, layers)


def cuts_of(objective: Objective, towers: Sequence[Tower], tower: Tower) -> tuple[Cut, ...]:
    """The (layer, width) sizes that an objective over `towers` trains one of them to be cut to, in its own layers.

    Raises ValueError as `exits_of`.
    """
    if not objective.layered:
        return ()
    depth = _deepest(objective, towers)
    own = tower.encoder.layers if exiting(tower) else None
    cuts = set[Cut]()
    for layer, dim in objective.cuts(depth, tower.dim):
        block = at_depth(layer, depth, own) if own else None
        cuts.add((None if block == own else block, dim))
    return tuple(sorted(cuts - {(None, tower.dim)}, key=lambda cut: (cut[0] or depth, cut[1])))


def _deepest(objective: Objective, towers: Sequence[Tower]) -> int:
    depth = max((tower.encoder.layers or 0 for tower in towers if exiting(tower)), default=0)
    if not depth:
        names = ", ".join(tower.encoder.spec.name for tower in towers)
        raise ValueError(
            f"{type(objective).__name__} trains several layers, but none of {names} trains with early exits: give a "
            "tower of an encoder with layers train='all', or use matryoshka for widths alone"
        )
    return depth


def interleave(parts: Sequence[Embedding], layers: Sequence[int]) -> Embedding:
    """The same rows after several layers as one Embedding: place t of layer l of n stands at t * n + l along T.

    So it can be padded, cut into rows and put together like any other; `by_layer` takes it apart.

    >>> both = interleave([Embedding.from_vectors(torch.ones(2, 4) * k) for k in (1, 2)], (1, 6))
    >>> both.values.shape, both.layers
    (torch.Size([2, 2, 4]), (1, 6))
    """
    values = torch.stack([part.values for part in parts], 2).flatten(1, 2)  # [B, T * n, D]
    mask = torch.stack([part.mask for part in parts], 2).flatten(1, 2)
    return replace(parts[0], values=values, mask=mask, layers=tuple(layers))


def by_layer(x: Embedding, count: int | None = None) -> list[Embedding]:
    """The embeddings of each layer of what `interleave` made; one of a single depth stands for `count` layers.

    >>> parts = [Embedding.from_vectors(torch.ones(2, 4) * k) for k in (1, 2)]
    >>> [part.values.mean().item() for part in by_layer(interleave(parts, (1, 6)))]
    [1.0, 2.0]
    """
    n = len(x.layers)
    if not n:
        return [x] * (count or 1)
    return [replace(x, values=x.values[:, i::n], mask=x.mask[:, i::n], layers=()) for i in range(n)]
