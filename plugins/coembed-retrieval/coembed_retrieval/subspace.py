"""Projecting out: what undesired vectors span is taken away from others; in retrieval, "sea but not boat"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from coembed.arguments import number
from coembed.embedding import Embedding

_GONE = 1e-5  # of a vector's length: what is left below that is rounding, no direction


@dataclass(frozen=True, eq=False)
class Subspace:
    """A linear subspace, as an orthonormal basis `[R, D]` in float64.

    >>> Subspace.of(Embedding.from_vectors(torch.tensor([[2.0, 0.0], [4.0, 0.0]]))).rank
    1
    """

    basis: Tensor

    @classmethod
    def of(cls, undesired: Embedding, rank: int | None = None) -> Self:
        """What the vectors of an embedding span (all tokens of all rows), or its `rank` strongest directions.

        Directions whose singular value is rounding only (below the largest times width times machine precision of the
        vectors' type) are no directions: four vectors of rank three span three. Raises ValueError for vectors that are
        absent, not finite or all zero, and for a subspace that is the whole space, of which nothing would be left.
        """
        vectors = undesired.values[undesired.mask].detach().cpu()  # [M, D]
        if not len(vectors) or not vectors.isfinite().all() or not vectors.any():
            raise ValueError("project_out: what is undesired must be vectors, finite and not all zero")
        if rank is not None:
            number("rank", rank, whole=True, least=1)
        _, sigma, rows = torch.linalg.svd(vectors.double(), full_matrices=False)
        least = sigma[0] * max(vectors.shape) * torch.finfo(vectors.dtype).eps
        count = int((sigma > least).sum())
        count = count if rank is None else min(rank, count)
        if count == undesired.dim:
            raise ValueError(
                f"project_out: the undesired vectors span all {count} dimensions: give fewer, or rank= to keep the "
                "strongest directions only"
            )
        return cls(rows[:count])

    @classmethod
    def random(cls, dim: int, rank: int, seed: int = 0) -> Self:
        """A subspace that knows nothing: the control for what projecting out any `rank` directions does.

        >>> Subspace.random(8, 2).rank
        2
        """
        drawn = torch.randn(dim, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        return cls(torch.linalg.qr(drawn).Q.T)

    @property
    def rank(self) -> int:
        """How many dimensions it has."""
        return len(self.basis)

    @property
    def projection(self) -> Tensor:
        """P `[D, D]`, float64: symmetric, and its own square."""
        return self.basis.T @ self.basis

    def remove(self, x: Embedding, alpha: float = 1.0) -> Embedding:
        """x - alpha x P for every vector, each brought back to its length; see `project_out`."""
        number("alpha", alpha, most=1)
        if x.dim != self.basis.shape[1]:
            raise ValueError(
                f"project_out: vectors of width {x.dim}, what is undesired has width {self.basis.shape[1]}"
            )
        if alpha == 0:
            return x
        basis = self.basis.to(x.values.device)
        values = x.values.masked_fill(~x.mask.unsqueeze(-1), 0).double()
        left = values - alpha * (values @ basis.T) @ basis
        before, after = values.norm(dim=-1, keepdim=True), left.norm(dim=-1, keepdim=True)
        kept = after > _GONE * before
        left = torch.where(kept, left * (before / after.clamp_min(torch.finfo(torch.float64).tiny)), 0)
        return replace(x, values=left.to(x.values.dtype))


def project_out(x: Embedding, undesired: Embedding, alpha: float = 1.0, rank: int | None = None) -> Embedding:
    """Take what `undesired` spans away from every vector of `x`, be they pooled or tokens `[B, T, D]`.

    X' = X - alpha X P with P = V Vᵀ, V the right singular vectors of the undesired vectors (all their tokens, or the
    `rank` strongest directions); alpha 0 changes nothing, 1 leaves nothing of them. Each vector gets its former length
    back, as cosines need; one that lay within the subspace becomes zero, and scores 0 with everything. Both must come
    from one tower. Raises ValueError for widths that differ, alpha outside 0..1, and as `Subspace.of`.
    Source: DECOR, arXiv 2412.09169; there for prompts of pictures, here for queries.

    >>> sea_and_boat = Embedding.from_vectors(torch.tensor([[0.6, 0.8, 0.0]]))
    >>> project_out(sea_and_boat, Embedding.from_vectors(torch.tensor([[0.0, 1.0, 0.0]]))).vectors
    tensor([[1., 0., 0.]])
    """
    return Subspace.of(undesired, rank).remove(x, alpha)


class ProjectOut:
    """`project_out` as a stage: `Dense(…, transforms=[ProjectOut(space.encode("text", ["boat"]))])`.

    >>> boat = Embedding.from_vectors(torch.tensor([[0.0, 1.0]]))
    >>> ProjectOut(boat)(boat).vectors
    tensor([[0., 0.]])
    """

    def __init__(self, undesired: Embedding | Subspace, alpha: float = 1.0, rank: int | None = None) -> None:
        number("alpha", alpha, most=1)
        self.subspace = undesired if isinstance(undesired, Subspace) else Subspace.of(undesired, rank)
        self.alpha = alpha

    def __call__(self, x: Embedding) -> Embedding:
        """The same vectors without what is undesired."""
        return self.subspace.remove(x, self.alpha)
