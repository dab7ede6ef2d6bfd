"""`heads/prompt-mask`: one state after each layer, combined by attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coembed.aligner import Aligner
from coembed.embedding import Embedding
from coembed_heads.projection import projection

__all__ = ["PromptMask"]


class PromptMask(Aligner):
    """The states of a prompt's mask token after each layer, as `heads/cloze` gives them, in one weighted sum.

    The weight of layer l is the softmax over layers of w · tanh(W h_l), with h_l at the length sqrt(D): late layers,
    whose states are often longer, would drown the others. A single layer is left as it is, so that this is mask pooling
    exactly. `aggregate="mean"` weighs all layers alike.
    Source: CodePrompt (arXiv 2401.05544), section 3; its attention formula could not be retrieved: this is a
    reconstruction (additive attention).

    >>> states = Embedding(torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool))
    >>> head = PromptMask(8, 4)
    >>> head(states).values.shape, head.weights(states).sum(1)
    (torch.Size([2, 1, 4]), tensor([1., 1.], grad_fn=<SumBackward1>))
    """

    def __init__(self, in_dim: int, out_dim: int, *, pool: str = "none", aggregate: str = "attention") -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        if aggregate not in ("attention", "mean"):
            raise ValueError(f"aggregate={aggregate!r}: use 'attention' or 'mean'")
        learned = aggregate == "attention"
        self.hidden = nn.Linear(in_dim, in_dim, bias=False) if learned else None
        self.score = nn.Linear(in_dim, 1, bias=False) if learned else None
        self.map = projection(in_dim, out_dim)

    def _even(self, x: Embedding) -> Tensor:
        even: Tensor = nn.functional.normalize(x.values, dim=-1) * x.dim**0.5
        return even

    def weights(self, x: Embedding) -> Tensor:
        """The weight of every layer `[B, L]`: they sum to 1."""
        if self.hidden is None or self.score is None:
            even = x.mask.to(x.values.dtype)
            return even / even.sum(1, keepdim=True).clamp_min(1)
        scores: Tensor = self.score(torch.tanh(self.hidden(self._even(x)))).squeeze(-1)
        weights = scores.masked_fill(~x.mask, torch.finfo(scores.dtype).min).softmax(1)
        return weights.masked_fill(~x.mask, 0)

    def project(self, x: Embedding) -> Embedding:
        """`[B, L, in_dim]` to `[B, 1, out_dim]`."""
        states = x.values if x.single else self._even(x)
        pooled = torch.einsum("bl,bld->bd", self.weights(x), states)[:, None]
        return Embedding(self.map(pooled), x.present[:, None])
