"""InfoNCE: every row picks its partner among all partners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from coembed.objectives.pairs import Directions, PairObjective, Pairs, check_directions
from coembed.objectives.precision import Precision, check_precision
from coembed.objectives.scale import Scale
from coembed.objectives.tiled import log_sum_exp
from coembed.objectives.tiled_maxsim import maxsim_rows
from coembed.ramp import Ramp
from coembed.sharing import ALONE, Share


class InfoNCE(PairObjective):
    """Cross-entropy of each row's own partner against all others of the batch, in one or both directions.

    The loss of row i is minus the logarithm of exp(s_ii / t) over the sum of exp(s_ij / t) of its partner and its
    negatives; both directions are averaged. Columns that keys or mask take out leave the denominator; a row without
    negatives costs 0. Extra negatives are b's kind, so only a asks against them. `temperature` is t at the start; the
    factor 1 / t is learned if `learnable` and never exceeds `max_scale`. A `Ramp`, or its arguments by name, changes t
    in the course of a run instead, and nothing of it is learned. MaxSim sums over query vectors: for
    multi-vectors a temperature near 1 fits. Large batches never hold their scores; `precision` is that of their matrix
    products: "fp32", "bf16" (inputs rounded, sums in float32) or "auto", which is bf16 under a bf16 autocast. Raises
    ValueError for values out of range.
    Source: van den Oord et al. 2018, equation 4; both directions and the learned factor: Radford et al. 2021, figure 3.

    >>> from coembed.embedding import Embedding
    >>> x = Embedding.from_vectors(torch.eye(2))
    >>> round(InfoNCE(temperature=1.0)(x, x).item(), 4)  # log(1 + exp(-1))
    0.3133
    """

    def __init__(
        self,
        temperature: float | Ramp | Mapping[str, Any] = 0.07,
        *,
        learnable: bool = True,
        max_scale: float = 100.0,
        directions: Directions = "both",
        precision: Precision = "auto",
    ) -> None:
        super().__init__()
        given = Ramp.given(temperature)
        ramp = given if isinstance(given, Ramp) else None
        ends = (given.start, given.end) if isinstance(given, Ramp) else (given,)
        for end in ends:
            if end <= 0 or 1 / end > max_scale * (1 + 1e-9):
                raise ValueError(f"temperature {end} must be at least 1 / max_scale = {1 / max_scale:g}")
        self.scale = Scale(min(1 / ends[0], max_scale), learnable=learnable, ceiling=max_scale, ramp=ramp)
        self.ramp = ramp  # for a run's checkpoints, which tell it from another
        self.directions, self.precision = check_directions(directions), check_precision(precision)
        self.symmetric = directions == "both"

    @property
    def temperature(self) -> float:
        """The temperature now in use, for logs."""
        return 1 / float(self.scale().item())

    def rows(self, pairs: Pairs) -> Tensor:
        """`[B]` losses, averaged over the directions."""
        return self.own_rows(pairs, ALONE)

    def own_rows(self, pairs: Pairs, share: Share) -> Tensor:
        """`[n]` losses of the share's pairs; in large batches their scores exist tile by tile."""
        scale = self.scale()
        if pairs.large and pairs.single:
            return self.large_rows(pairs, scale, share)
        if pairs.large:
            views = pairs.views(self.directions)
            return torch.stack([self.large_view(view, scale, share) for view in views]).mean(0)
        losses = [self.row_losses(scale * scores, view) for view, scores in pairs.ways(self.directions)]
        return torch.stack(losses).mean(0)[share.part(len(pairs))]

    def large_rows(self, pairs: Pairs, scale: Tensor, share: Share) -> Tensor:
        """The same losses of single vectors without the `[B, B + N]` matrix."""
        rows, columns, own = self.sums(pairs, scale, share, pairs.keys, pairs.mask)
        return self.directed(rows - own, columns - own)

    def sums(
        self, pairs: Pairs, scale: Tensor, share: Share, keys: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-sum-exps of rows and columns and the logits of own pairs, `[n]` each, for the share's pairs."""
        a, b = pairs.a.vectors, pairs.columns().vectors
        return log_sum_exp(
            a, b, scale, keys, mask, directions=self.directions, precision=self.precision, share=share
        )  # fmt: skip

    def large_view(self, view: Pairs, scale: Tensor, share: Share) -> Tensor:
        """One direction of multi-vectors, `[n]`, without the scores of their tokens."""
        rows, own = maxsim_rows(
            view.a, view.columns(), scale, keys=view.keys, mask=view.mask, precision=self.precision, share=share
        )
        return rows - own

    def directed(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The losses of the directions that count."""
        return {"both": (rows + columns) / 2, "a->b": rows, "b->a": columns}[self.directions]

    def row_losses(self, logits: Tensor, view: Pairs) -> Tensor:
        """One direction: logits `[B, B + N]` to `[B]`."""
        excluded = view.excluded()
        kept = logits if excluded is None else logits.masked_fill(excluded, -torch.inf)
        return kept.logsumexp(1) - logits.diagonal()
