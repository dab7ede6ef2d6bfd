"""Objective: two embeddings of equal length to a scalar loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.spec import Spec


class Objective(nn.Module, ABC):
    """What a contrastive step minimises; row i of `a` belongs to row i of `b`.

    Learnable scalars (temperature, bias) are its parameters, counters its buffers; both are saved with the run. `dims`
    are the widths that it trains vectors to be cut to, empty for most; a space records them as declared sizes. Most
    losses are a mean of one loss a pair: `PairObjective` checks and cleans the arguments for them.
    """

    spec: Spec | None = None
    dims: tuple[int, ...] = ()
    symmetric: bool = False  # swapping the sides changes nothing (single vectors)
    additive: bool = False  # a batch's loss is the mean of its parts': no negatives
    # Inside `sharing.shared` it returns this process's part, and the parts add up to the loss of the whole batch. Where
    # it is False every process returns the whole loss, and whoever adds them up divides by their number.
    shares: bool = False
    layered: bool = False  # trains vectors of several layers: see `exits`

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """An instance for the conformance kit; a class with required arguments overrides it."""
        return cls()

    def exits(self, depth: int) -> tuple[int, ...]:
        """The layers of an encoder of `depth` blocks that this step's `forward` gets, the last of them `depth`.

        Asked once a step, before anything is embedded, of an objective that is `layered`; draws come from torch's
        generator, which is seeded by the step. Empty: the full depth alone.
        """
        return ()

    def cuts(self, depth: int, dim: int) -> tuple[tuple[int, int], ...]:
        """The sizes (layer, width) that it trains vectors of `depth` layers and width `dim` to be cut to.

        Raises ValueError for a layer or a width that they lack: asked before a run begins.
        """
        return ()

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

        `weights` `[B]` scales each pair's own loss (the loss is the weighted mean; a pair of weight 0 is still a
        negative of the others); `keys` `[B]` integer: rows with equal keys are the same thing and are never each
        other's negatives; `mask` `[B, B + N]` bool: True at pairs that are not negatives; `negatives` `[N, T, D]`:
        further rows of b's side that match no row of a. A pair of which one half is absent contributes nothing, not
        even a negative; without any pair the loss is 0. Vectors are taken as they come: at unit length, from an
        aligner.
        """
