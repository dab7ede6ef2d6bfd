"""`heads/latent-attention`: tokens look things up in a learned dictionary before their mean is taken."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed.aligner import Aligner
from coembed.embedding import Embedding
from coembed_heads.projection import projection

__all__ = ["LatentAttention"]


class LatentAttention(Aligner):
    """Cross attention from tokens to `latents` learned vectors, a gated feed-forward part, then the tokens' mean.

    The tokens are the queries, the latents keys and values, so that no mask is needed inside and every row of weights
    sums to 1 over the latents; the mean is over the tokens that the encoder's mask names. Both halves have a LayerNorm
    of their own in front and a residual. `heads` heads have `head_dim` numbers each (None: `in_dim / heads`; the
    published model has `in_dim`), `ff` times `in_dim` is the width of the feed-forward half; `zero=True` starts as the
    plain mean. A linear map follows where `out_dim` differs. Raises ValueError for a size below 1.
    Source: Lee et al. 2024, NV-Embed, section 3.1; residuals and norms as in the released model, where its equations
    name none.

    >>> head = LatentAttention(8, 4, latents=3, heads=2)
    >>> tokens = Embedding(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool))
    >>> head(tokens).values.shape, head.weights(tokens).shape
    (torch.Size([2, 1, 4]), torch.Size([2, 2, 5, 3]))
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        pool: str = "none",
        latents: int = 32,
        heads: int = 4,
        head_dim: int | None = None,
        ff: int = 4,
        zero: bool = False,
    ) -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        size = max(1, in_dim // max(1, heads)) if head_dim is None else head_dim
        for name, value in (("latents", latents), ("heads", heads), ("head_dim", size), ("ff", ff)):
            if value < 1:
                raise ValueError(f"latent attention with {name}={value}: at least 1 is needed")
        self.heads = heads
        self.latents = nn.Parameter(torch.randn(latents, in_dim))
        self.token_norm, self.latent_norm = nn.LayerNorm(in_dim), nn.LayerNorm(in_dim)
        self.query = nn.Linear(in_dim, heads * size, bias=False)
        self.key_value = nn.Linear(in_dim, 2 * heads * size, bias=False)
        self.output = nn.Linear(heads * size, in_dim, bias=False)
        self.ff_norm = nn.LayerNorm(in_dim)
        self.up = nn.Linear(in_dim, 2 * ff * in_dim)
        self.down = nn.Linear(ff * in_dim, in_dim)
        self.map = projection(in_dim, out_dim)
        if zero:
            for tensor in (self.output.weight, self.down.weight, self.down.bias):
                nn.init.zeros_(tensor)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(-3, -2)  # [..., H, T, D / H]

    def weights(self, x: Embedding) -> Tensor:
        """What each token takes from each latent, `[B, heads, T, latents]`: every row sums to 1."""
        query = self._heads(self.query(self.token_norm(x.values)))
        key = self._heads(self.key_value(self.latent_norm(self.latents)).chunk(2, -1)[0])
        weights: Tensor = (query @ key.transpose(-2, -1) / key.shape[-1] ** 0.5).softmax(-1)
        return weights

    def tokens(self, x: Embedding) -> Embedding:
        """The tokens `[B, T, in_dim]` after both halves, before their mean."""
        query = self._heads(self.query(self.token_norm(x.values)))  # [B, H, T, d]
        key, value = self.key_value(self.latent_norm(self.latents)).chunk(2, -1)
        rows = len(x)
        key, value = (self._heads(part).expand(rows, -1, -1, -1) for part in (key, value))  # [B, H, r, d]
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        states = x.values + self.output(mixed)
        value, gate = self.up(self.ff_norm(states)).chunk(2, -1)
        return Embedding(states + self.down(value * F.gelu(gate)), x.mask)

    def project(self, x: Embedding) -> Embedding:
        """`[B, T, in_dim]` to `[B, 1, out_dim]`."""
        pooled = self.tokens(x).pool("mean")
        return Embedding(self.map(pooled.values), pooled.mask)
