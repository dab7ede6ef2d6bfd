"""`heads/late`: a small vector for every token, or for the few that cover the item."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed.aligner import Aligner
from coembed.embedding import Embedding

__all__ = ["Late", "cover"]


class Late(Aligner):
    """Every token through one linear map to `out_dim`: multi-vectors, scored by MaxSim.

    `keep=k` leaves the k tokens that cover the item (`cover`), `merge=True` the means of the tokens around each of
    them: an index of a fraction of the size. What the encoder's mask leaves out (padding, a prompt with
    `pool_prompt=False`, words to skip) never becomes a vector. Raises ValueError for a `keep` below 1, or `merge`
    without it.
    Source: Khattab and Zaharia 2020, ColBERT, section 3.2; merging: Clavié et al. 2024, Reducing the Footprint of
    Multi-Vector Retrieval with Minimal Performance Impact via Token Pooling, with farthest-first clusters.

    >>> tokens = Embedding(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool))
    >>> Late(8, 4)(tokens).values.shape, Late(8, 4, keep=2)(tokens).values.shape
    (torch.Size([2, 5, 4]), torch.Size([2, 2, 4]))
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, pool: str = "none", keep: int | None = None, merge: bool = False
    ) -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        if keep is not None and keep < 1:
            raise ValueError(f"late interaction with keep={keep}: at least 1 vector is needed, or None for all")
        if merge and keep is None:
            raise ValueError("merge=True gathers tokens around those kept: say how many with keep=")
        self.keep, self.merge = keep, merge
        self.map = nn.Linear(in_dim, out_dim, bias=False)
        nn.init.orthogonal_(self.map.weight)

    def project(self, x: Embedding) -> Embedding:
        """`[B, T, in_dim]` to `[B, T, out_dim]`, or `[B, keep, out_dim]`."""
        vectors = Embedding(self.map(x.values), x.mask).normalize()
        if self.keep is None or vectors.values.shape[1] <= self.keep:
            return vectors
        with torch.no_grad():
            at, there = cover(vectors.values, vectors.mask, self.keep)
        chosen = vectors.values.gather(1, at[..., None].expand(-1, -1, vectors.dim))  # [B, k, D]
        if self.merge:
            near = (vectors.values @ chosen.transpose(1, 2)).masked_fill(~there[:, None], -torch.inf)  # [B, T, k]
            own = F.one_hot(near.argmax(2), self.keep).to(chosen.dtype) * vectors.mask[..., None]
            chosen = own.transpose(1, 2) @ vectors.values / own.sum(1)[..., None].clamp_min(1)
        return Embedding(chosen.masked_fill(~there[..., None], 0), there)


def cover(vectors: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of unit vectors `[B, T, D]` the `count` that cover each row: the one nearest the mean, then ever the farthest.

    Gives places `[B, count]` in the order of the tokens, and `[B, count]` bool: False where a row has no more tokens.
    Source: Gonzalez 1985, Clustering to minimize the maximum intercluster distance.

    >>> x = torch.tensor([[[1.0, 0.0], [0.96, 0.28], [0.0, 1.0]]])
    >>> cover(x, torch.ones(1, 3, dtype=torch.bool), 2)[0]
    tensor([[1, 2]])
    """
    rows, length = mask.shape
    every = torch.arange(rows, device=mask.device)
    mean = (vectors * mask[..., None]).sum(1)
    score = torch.einsum("btd,bd->bt", vectors, mean)
    taken, nearest = ~mask, torch.full_like(score, -torch.inf)
    places, there = [], []
    for turn in range(count):
        wanted = score if turn == 0 else -nearest
        place = wanted.masked_fill(taken, -torch.inf).argmax(1)  # [B]
        there.append(~taken.all(1))
        # a row without more tokens points at the end, and sorts behind the others
        places.append(torch.where(there[-1], place, length - 1))
        similarity = torch.einsum("btd,bd->bt", vectors, vectors[every, place])
        nearest = torch.where(there[-1][:, None], torch.maximum(nearest, similarity), nearest)
        taken = taken.clone()
        taken[every, place] = True
    at, valid = torch.stack(places, 1), torch.stack(there, 1)
    order = torch.where(valid, at, length).argsort(dim=1, stable=True)
    return at.gather(1, order), valid.gather(1, order)
