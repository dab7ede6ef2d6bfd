"""What the objectives share: checked pairs, the scores of either direction, the mean over pairs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from coembed.embedding import Embedding, similarity
from coembed.objectives.base import Objective
from coembed.sharing import ALONE, Share, current

Directions = Literal["both", "a->b", "b->a"]
EVERY = slice(None)
LARGE = 1 << 18  # scores beyond which a loss goes tile by tile: from 1 MB on that is the faster way too


@dataclass(frozen=True, eq=False)
class Pairs:
    """The arguments of an objective, checked, without absent rows.

    `a` and `b` have B rows and `negatives` N, every one present; `weights` is `[B]`, `keys` `[B]`, `mask` `[B, B + N]`.

    >>> x = Embedding.from_vectors(torch.eye(3))
    >>> Pairs.of(x, x, keys=torch.tensor([0, 0, 1])).negative().int()
    tensor([[0, 0, 1],
            [0, 0, 1],
            [1, 1, 0]], dtype=torch.int32)
    """

    a: Embedding
    b: Embedding
    weights: Tensor
    keys: Tensor | None = None
    mask: Tensor | None = None
    negatives: Embedding | None = None

    @classmethod
    def of(
        cls,
        a: Embedding,
        b: Embedding,
        *,
        weights: Tensor | None = None,
        keys: Tensor | None = None,
        mask: Tensor | None = None,
        negatives: Embedding | None = None,
    ) -> Pairs:
        """Check the arguments and drop every pair of which one half is absent, and every absent extra negative.

        Raises ValueError naming the argument whose shape or type does not fit.
        """
        size, extra = len(a), 0 if negatives is None else len(negatives)
        if len(b) != size:
            raise ValueError(f"an objective takes pairs: a has {size} rows, b {len(b)}")
        if weights is None:
            weights = torch.ones(size, device=a.values.device)
        elif weights.shape != (size,):
            raise ValueError(f"weights must be [{size}], one a pair, got {tuple(weights.shape)}")
        if keys is not None and (keys.shape != (size,) or keys.is_floating_point()):
            raise ValueError(f"keys must be integers [{size}], one a pair, got {keys.dtype} {tuple(keys.shape)}")
        if mask is not None and (mask.shape != (size, size + extra) or mask.dtype != torch.bool):
            got = f"{mask.dtype} {tuple(mask.shape)}"
            raise ValueError(f"mask must be bool [{size}, {size} + {extra} extra negatives], got {got}")
        here = a.present & b.present
        there = here if negatives is None else torch.cat([here, negatives.present])
        if not there.all():
            a, b, weights = a[here], b[here], weights[here]
            keys = None if keys is None else keys[here]
            mask = None if mask is None else mask[here][:, there]
            negatives = None if negatives is None else negatives[there[size:]]
        return cls(a, b, weights, keys, mask, negatives if negatives is not None and len(negatives) else None)

    def __len__(self) -> int:
        return len(self.a)

    def turned(self) -> Pairs:
        """The same with b asking; extra negatives are rows of b's side, so none are left."""
        mask = None if self.mask is None else self.mask[:, : len(self)].T
        return replace(self, a=self.b, b=self.a, mask=mask, negatives=None)

    @property
    def large(self) -> bool:
        """Whether the scores of all vectors are so many that they should not be held at once."""
        asked = self.b.mask.shape[1] if self.negatives is None else self.columns_width()
        return self.a.mask.numel() * (len(self) + len(self.negatives or ())) * asked > LARGE

    @property
    def single(self) -> bool:
        """Whether every row is one vector."""
        return self.a.single and self.b.single and (self.negatives is None or self.negatives.single)

    def columns_width(self) -> int:
        """The longest row that a's rows meet."""
        return max(x.mask.shape[1] for x in (self.b, self.negatives) if x is not None)

    def columns(self) -> Embedding:
        """What a's rows meet: b's rows, then the extra negatives."""
        return self.b if self.negatives is None else Embedding.cat([self.b, self.negatives])

    def scores(self) -> Tensor:
        """`[B, B + N]` similarities of a's rows to b's and to the extra negatives, float32 or better."""
        scores = similarity(self.a, self.columns())
        return scores.to(torch.promote_types(scores.dtype, torch.float32))  # half is too coarse for an exponential

    def views(self, directions: Directions) -> list[Pairs]:
        """The pairs as seen by whoever asks: a's view, b's, or both."""
        return [*([self] if directions != "b->a" else []), *([self.turned()] if directions != "a->b" else [])]

    def ways(self, directions: Directions) -> Iterator[tuple[Pairs, Tensor]]:
        """The pairs as seen by whoever asks, with their scores: a's view, b's, or one after the other.

        MaxSim depends on who asks, so that multi-vectors are scored once for each; the scores of single vectors are
        only transposed.
        """
        scores = None
        if directions != "b->a":
            scores = self.scores()
            yield self, scores
        if directions != "a->b":
            turned = self.turned()
            alike = scores is not None and self.a.single and self.b.single
            yield turned, scores[:, : len(self)].T if scores is not None and alike else turned.scores()

    def own(self, rows: slice = EVERY) -> Tensor:
        """`[B, B + N]` bool: True where a row meets its own partner; of some rows only, as the next three."""
        extra = 0 if self.negatives is None else len(self.negatives)
        columns = torch.arange(len(self) + extra, device=self.a.values.device)
        return columns[: len(self)][rows, None] == columns

    def alike(self, rows: slice = EVERY) -> Tensor | None:
        """`[B, B]` bool: True where two rows have the same key, themselves included; None without keys."""
        return None if self.keys is None else self.keys[rows, None] == self.keys[None, :]

    def excluded(self, rows: slice = EVERY) -> Tensor | None:
        """`[B, B + N]` bool: True where a column is neither the row's partner nor a negative; None if none can be."""
        if self.keys is None and self.mask is None:
            return None
        own = self.own(rows)
        excluded = torch.zeros_like(own) if self.mask is None else self.mask[rows].clone()
        alike = self.alike(rows)
        if alike is not None:
            excluded[:, : len(self)] |= alike
        return excluded & ~own

    def negative(self, rows: slice = EVERY) -> Tensor:
        """`[B, B + N]` bool: True where a column is a negative of the row."""
        own, excluded = self.own(rows), self.excluded(rows)
        return ~own if excluded is None else ~(own | excluded)


class PairObjective(Objective):
    """An objective that is the weighted mean of one loss a pair: an author writes `rows`.

    `rows` sees clean pairs and is where a wrapper can look at single losses, or a fused kernel can take over. Where
    several processes share a batch (`coembed.sharing`), `forward` gives this process's part of the mean.
    """

    shares = True

    @abstractmethod
    def rows(self, pairs: Pairs) -> Tensor:
        """`[B]` losses, one a pair, before weighting; B is at least 1."""

    def own_rows(self, pairs: Pairs, share: Share) -> Tensor:
        """`[n]` losses of the pairs that the share answers for; override where they are cheaper than all `[B]`."""
        return self.rows(pairs)[share.part(len(pairs))]

    def forward(
        self,
        a: Embedding,
        b: Embedding,
        *,
        weights: Tensor | None = None,
        keys: Tensor | None = None,
        mask: Tensor | None = None,
        negatives: Embedding | None = None,
    ) -> Tensor:
        """The weighted mean of `rows`, a scalar; arguments as in `Objective.forward`."""
        pairs = Pairs.of(a, b, weights=weights, keys=keys, mask=mask, negatives=negatives)
        if not len(pairs):
            return pairs.a.values.sum() + pairs.b.values.sum()  # 0, and backward still works
        share = current()
        return weighted_sum(self.losses(pairs, share), pairs.weights, share)

    def losses(self, pairs: Pairs, share: Share) -> Tensor:
        """`[n]` losses of the share's pairs, by `own_rows` or, where a subclass changes `rows` alone, by that."""
        # It means it: what its base computes of a share would pass it by.
        newest = next(vars(kind) for kind in type(self).__mro__ if {"rows", "own_rows"} & vars(kind).keys())
        return self.own_rows(pairs, share) if "own_rows" in newest else self.rows(pairs)[share.part(len(pairs))]


def weighted_sum(losses: Tensor, weights: Tensor, share: Share = ALONE) -> Tensor:
    """Sum of `weights * losses` over the share's pairs, by the weight of all pairs; 0 where all weights are 0.

    >>> weighted_sum(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0]))
    tensor(2.)
    """
    weights = weights.to(losses.dtype)
    total = weights.sum()
    return (weights[share.part(len(weights))] * losses).sum() / torch.where(total == 0, 1, total)


def check_directions(directions: str) -> Directions:
    """The word as it came; raises ValueError unless it is a direction."""
    if directions not in get_args(Directions):
        raise ValueError(f"directions {directions!r}: use 'both', 'a->b' or 'b->a'")
    return directions  # type: ignore[return-value]
