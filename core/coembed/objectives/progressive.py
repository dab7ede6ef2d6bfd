"""Progressive: pairs weigh more the harder they are, and the more so the further training is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from coembed import sharing
from coembed.embedding import Embedding
from coembed.moment import current
from coembed.objectives.base import Objective
from coembed.objectives.pairs import PairObjective, Pairs, weighted_sum
from coembed.objectives.wrapper import Wrapper
from coembed.ramp import Ramp

EPSILON = 1e-6  # an easy pair keeps a little weight


class Progressive(Wrapper):
    """The weighted mean of an objective's losses, pair i by beta_i = n w_i / sum(w), w_i = (g_i + epsilon) ** alpha(t).

    g_i = 1 - exp(-loss_i) is how far a pair is from being told apart (for InfoNCE 1 - p_i), taken without gradient; n
    is the size of the batch and t the share of a stage's steps that is done. `alpha` is a number, a `Ramp` (also as its
    arguments by name), or any function of t; at 0 the loss is the inner one, bit for bit. With `guard` the hardest
    share of a batch weighs nothing while t < `guard_until`: mismatched pairs are among them. A pair's own weight
    multiplies its w. The inner objective must have one loss a pair. Raises TypeError for another, ValueError for shares
    outside of 0..1.
    Source: a RECONSTRUCTION after Wu et al. 2023, PEG (arXiv 2311.11691), which says that its weights move from easy to
    hard samples as training goes on; the formula, the ramp and the guard are ours. `alpha` is where another one goes.

    >>> from coembed.moment import Moment, at
    >>> x, y = (Embedding.from_vectors(torch.eye(3)[rows]) for rows in ([0, 1, 2], [0, 1, 1]))
    >>> loss = Progressive("infonce", alpha=Ramp(0.0, 2.0))
    >>> with at(Moment(share=1.0)):
    ...     print(bool(loss(x, y) > loss.objective(x, y)))
    True
    """

    def __init__(
        self,
        objective: str | Objective = "infonce",
        alpha: float | Ramp | Mapping[str, Any] | Callable[[float], float] | None = None,
        *,
        guard: float = 0.0,
        guard_until: float = 1 / 3,
    ) -> None:
        super().__init__(objective)
        if not isinstance(self.objective, PairObjective):
            kind = type(self.objective).__name__
            raise TypeError(
                f"progressive needs an objective with one loss a pair, not {kind}: let that wrap progressive"
            )
        for name, value in (("guard", guard), ("guard_until", guard_until)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} {value} of progressive must lie between 0 and 1")
        given = Ramp(0.0, 1.5) if alpha is None else alpha
        self.alpha = Ramp.given(given) if isinstance(given, Mapping) else given
        self.alpha_name = getattr(self.alpha, "__qualname__", repr(self.alpha))  # for a run's checkpoints
        self.guard, self.guard_until = float(guard), float(guard_until)

    def betas(self, losses: Tensor, weights: Tensor) -> Tensor:
        """`[n]` factors of pairs with these losses, their weighted mean 1; without gradient."""
        share, losses = current().share, losses.detach()
        alpha = float(self.alpha(share)) if callable(self.alpha) else float(self.alpha)
        if not math.isfinite(alpha):
            raise ValueError(f"alpha of progressive is {alpha} at {share:g} of the steps: it must be finite")
        factors = (1 - torch.exp(-losses) + EPSILON).clamp(min=EPSILON) ** alpha
        dropped = int(self.guard * len(losses)) if share < self.guard_until else 0
        if dropped:
            factors[losses.argsort(descending=True, stable=True)[:dropped]] = 0
        total = (weights * factors).sum()
        return factors * torch.where(total == 0, 1, weights.sum() / torch.where(total == 0, 1, total))

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
        """The weighted mean of the inner losses; arguments as in `Objective.forward`."""
        assert isinstance(self.objective, PairObjective)
        pairs = Pairs.of(a, b, weights=weights, keys=keys, mask=mask, negatives=negatives)
        if not len(pairs):
            return pairs.a.values.sum() + pairs.b.values.sum()  # 0, and backward still works
        share = sharing.current()
        own = self.objective.losses(pairs, share)
        every = own.new_zeros(len(pairs))
        every[share.part(len(pairs))] = own.detach()
        every = share.total(every)  # a pair's factor depends on all pairs
        given = pairs.weights.to(every.dtype)
        return weighted_sum(own, given * self.betas(every, given), share)
