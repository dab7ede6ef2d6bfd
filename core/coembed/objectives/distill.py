"""Distill: one tower learns to give another's vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from coembed.embedding import Embedding
from coembed.objectives.pairs import PairObjective, Pairs

Kind = Literal["cosine", "mse"]


class Distill(PairObjective):
    """Distance of each row of `a` to its partner in `b`, which is the fixed target and gets no gradient.

    "cosine" is 1 minus the cosine, "mse" the mean squared difference of the dimensions. Multi-vectors: every vector is
    matched with the nearest of its partner row, from a to b and from b to a, and both are averaged, so that no vector
    of the target is left out. There are no negatives here: keys, mask and extra negatives change nothing. Raises
    ValueError for another kind or unequal widths. Source: Reimers and Gurevych 2020, Making Monolingual Sentence
    Embeddings Multilingual using Knowledge Distillation, equation 1 (mse).

    >>> student, teacher = (Embedding.from_vectors(torch.tensor([x])) for x in ([1.0, 0.0], [0.6, 0.8]))
    >>> round(Distill()(student, teacher).item(), 4)
    0.4
    """

    additive = True

    def __init__(self, kind: Kind = "cosine") -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"distill kind {kind!r}: use 'cosine' or 'mse'")
        self.kind = kind

    def rows(self, pairs: Pairs) -> Tensor:
        """`[B]` distances."""
        a, b = pairs.a, replace(pairs.b, values=pairs.b.values.detach())
        if a.dim != b.dim:
            raise ValueError(f"distill: the student has {a.dim} dimensions, its target {b.dim}")
        a, b = self._ready(a), self._ready(b)
        return (self._towards(a, b) + self._towards(b, a)) / 2

    def _ready(self, x: Embedding) -> Embedding:
        values = x.values.to(torch.promote_types(x.values.dtype, torch.float32))
        x = replace(x, values=values.masked_fill(~x.mask[..., None], 0))
        return x.normalize() if self.kind == "cosine" else x

    def _towards(self, x: Embedding, y: Embedding) -> Tensor:
        """Mean distance of a row's vectors in x to the nearest of the same row in y: `[B]`."""
        with torch.no_grad():
            far = torch.cdist(x.values, y.values).masked_fill(~y.mask[:, None], torch.inf)  # [B, Tx, Ty]
            nearest = far.argmin(-1)[..., None].expand(-1, -1, y.dim)
        other = y.values.gather(1, nearest)  # [B, Tx, D]
        away = 1 - (x.values * other).sum(-1) if self.kind == "cosine" else (x.values - other).square().mean(-1)
        return away.masked_fill(~x.mask, 0).sum(1) / x.mask.sum(1)
