"""SigLIP: every combination of rows is its own yes-or-no question."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed.objectives.pairs import PairObjective, Pairs
from coembed.objectives.precision import Precision, check_precision
from coembed.objectives.scale import Scale
from coembed.objectives.tiled_maxsim import maxsim_rows
from coembed.objectives.tiled_sigmoid import negative_sums
from coembed.sharing import ALONE, Share


class SigLIP(PairObjective):
    """Logistic loss over all combinations of the batch, with a learned factor and bias and no softmax.

    The sum over i and j of minus log sigmoid(z_ij (scale * s_ij + bias)), with z = 1 for partners and -1 for
    negatives, over the number of pairs B. Columns that keys or mask take out add nothing. A negative combination
    belongs half to each of its two rows, and MaxSim of multi-vectors, which depends on who asks, is averaged over
    both. `scale` and `bias` are the values at the start, learned if `learnable`; `precision` as for InfoNCE. Raises
    ValueError for a scale that is not positive or a bias that is not finite.
    Source: Zhai et al. 2023, equation 1 and algorithm 1.

    >>> from coembed.embedding import Embedding
    >>> x = Embedding.from_vectors(torch.eye(2))
    >>> round(SigLIP(scale=1.0, bias=0.0)(x, x).item(), 4)  # log(1 + exp(-1)) + log 2
    1.0064
    """

    bias: Tensor
    symmetric = True

    def __init__(
        self, scale: float = 10.0, bias: float = -10.0, *, learnable: bool = True, precision: Precision = "auto"
    ) -> None:
        super().__init__()
        if not math.isfinite(bias):
            raise ValueError(f"bias {bias} must be finite")
        self.scale, self.precision = Scale(scale, learnable=learnable), check_precision(precision)
        if learnable:
            self.bias = nn.Parameter(torch.tensor(float(bias)))
        else:
            self.register_buffer("bias", torch.tensor(float(bias)))

    @property
    def temperature(self) -> float:
        """One over the factor now in use, for logs."""
        return 1 / float(self.scale().item())

    def rows(self, pairs: Pairs) -> Tensor:
        """`[B]` losses: a row's partner and its share of the negatives."""
        return self.own_rows(pairs, ALONE)

    def own_rows(self, pairs: Pairs, share: Share) -> Tensor:
        """`[n]` losses of the share's pairs; in large batches their scores exist tile by tile."""
        scale = self.scale()
        if pairs.large and not pairs.single:
            return torch.stack([self.large_view(view, scale, share) for view in pairs.views("both")]).mean(0)
        if pairs.large:
            a, b, given = pairs.a.vectors, pairs.columns().vectors, (pairs.keys, pairs.mask)
            rows, columns, own = negative_sums(
                a, b, scale, self.bias, *given, precision=self.precision, share=share
            )  # fmt: skip
            return (rows + columns) / 2 - F.logsigmoid(own + self.bias)
        losses = [self.row_losses(scale * scores + self.bias, view) for view, scores in pairs.ways("both")]
        return torch.stack(losses).mean(0)[share.part(len(pairs))]

    def large_view(self, view: Pairs, scale: Tensor, share: Share) -> Tensor:
        """One direction of multi-vectors, `[n]`, without the scores of their tokens."""
        rows, own = maxsim_rows(
            view.a, view.columns(), scale, self.bias, view.keys, view.mask, precision=self.precision, share=share
        )
        return rows - F.logsigmoid(own + self.bias)

    def row_losses(self, logits: Tensor, view: Pairs) -> Tensor:
        """One direction: logits `[B, B + N]` to `[B]`."""
        losses = -F.logsigmoid(torch.where(view.own(), logits, -logits))
        excluded = view.excluded()
        if excluded is not None:
            losses = losses.masked_fill(excluded, 0)
        # Only a meets the extra negatives: they count twice there, since the mean over both directions halves them.
        return losses[:, : len(view)].sum(1) + 2 * losses[:, len(view) :].sum(1)
