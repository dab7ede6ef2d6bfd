"""Objective: two embeddings of equal length to a scalar loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.spec import Spec


class Objective(nn.Module, ABC):
    """What a contrastive step minimises; row i of `a` belongs to row i of `b`.

    Learnable scalars (temperature, bias) are its parameters and are trained and saved with the run. `dims` are the
    widths (Matryoshka sizes) that it trains vectors to be cut to.
    """

    spec: Spec | None = None
    dims: tuple[int, ...] = ()

    @abstractmethod
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
        """The loss of `B` pairs, a scalar.

        `weights` `[B]` scales each pair (the loss is the weighted mean); `keys` `[B]` int64: rows with equal keys are
        the same thing and are never each other's negatives; `mask` `[B, B + N]` bool: True at pairs that are not
        negatives; `negatives` `[N, T, D]`: further rows of b's side that match no row of a.
        """
