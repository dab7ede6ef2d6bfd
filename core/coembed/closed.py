"""Closed-form aligners: both sides' maps from pairs in one step, without training."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from coembed.aligner import Aligner, with_values
from coembed.embedding import Embedding


class ClosedForm(Aligner):
    """A map `(x - mean) W` that was solved for, not trained: W, mean and the flag `fitted` are buffers.

    Calling it before it is fitted raises RuntimeError. Fitted maps are saved and loaded as any state, so a built but
    unfitted aligner takes them by `load_state_dict`.
    """

    weight: Tensor
    mean: Tensor
    fitted: Tensor

    def __init__(self, in_dim: int, out_dim: int, *, pool: str = "native") -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        self.register_buffer("weight", torch.zeros(in_dim, out_dim))
        self.register_buffer("mean", torch.zeros(in_dim))
        self.register_buffer("fitted", torch.tensor(False))

    def project(self, x: Embedding) -> Embedding:
        """Every vector centred and through the map."""
        if not self.fitted:
            name = type(self).__name__
            raise RuntimeError(
                f"this {name} aligner is not fitted: {name}.fit(a, b) gives the maps of both sides; "
                "use them in the towers, or load_state_dict theirs"
            )
        return with_values(x, (x.values - self.mean.to(x.values.dtype)) @ self.weight.to(x.values.dtype))

    def _take(self, side: _Side, weight: Tensor) -> None:
        self.weight = weight.to(side.device, side.dtype).contiguous()
        self.mean = side.mean.to(side.device, side.dtype)
        self.fitted = torch.tensor(True, device=side.device)


class Procrustes(ClosedForm):
    """An orthogonal map of one side onto the other: angles and lengths survive, only the axes change.

    `fit` solves for both sides. `center` takes each side's mean off first, which also closes the gap between
    modalities; `scale` puts the least-squares factor on a's map, which shows in `project` but not in unit vectors.
    Source: Schönemann 1966, A generalized solution of the orthogonal Procrustes problem.

    >>> a = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1))).Q
    >>> left, right = Procrustes.fit(Embedding.from_vectors(a), Embedding.from_vectors(a @ turn))
    >>> torch.allclose(left.weight, turn, atol=1e-5), torch.equal(right.weight, torch.eye(3))
    (True, True)
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, pool: str = "native", center: bool = True, scale: bool = False
    ) -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        self.center, self.scale = center, scale

    @staticmethod
    def fit(
        a: Embedding,
        b: Embedding,
        out_dim: int | None = None,
        *,
        pool: str = "native",
        center: bool = True,
        scale: bool = False,
    ) -> tuple[Procrustes, Procrustes]:
        """Both sides' fitted aligners, from pairs: row i of `a` belongs to row i of `b`.

        With U S V' the singular value decomposition of the cross-covariance A' B:
        `out_dim` equal to b's width (the default) keeps b's axes: a goes by U V', b by the identity;
        equal to a's width: a by the identity, b by V U'; smaller than both: a by the first columns of U, b by those of
        V, the directions of largest covariance in falling order. All these maps are (semi-)orthogonal: where a is
        wider than b it is projected, where it is narrower it lies in a subspace of b's space. Directions on which the
        pairs say nothing (fewer rows than dimensions, rank deficiency) are completed arbitrarily, but orthogonally.
        Pairs of which one half is absent are left out; memory is the float64 copies of both sides. Raises ValueError
        for multi-vectors that `pool` does not reduce, fewer than two pairs, NaN or infinity, a side without any
        variation, and any other `out_dim`.
        """
        left, right = _sides(a, b, pool, center)
        p, q = a.dim, b.dim
        size = q if out_dim is None else out_dim
        if size not in (p, q) and not 1 <= size < min(p, q):
            raise ValueError(
                f"procrustes from {p} and {q} dimensions: out_dim {size} must be {p}, {q} or less than both"
            )
        u, _, vt = torch.linalg.svd(left.rows.T @ right.rows, full_matrices=False)
        if size == q:
            maps = u @ vt, _eye(q)
        elif size == p:
            maps = _eye(p), vt.T @ u.T
        else:
            signs = _signs(u[:, :size])
            maps = u[:, :size] * signs, vt[:size].T * signs
        if scale:
            moved = left.rows @ maps[0]
            factor = (moved * (right.rows @ maps[1])).sum() / moved.square().sum().clamp_min(1e-300)
            maps = maps[0] * factor, maps[1]
        return (
            _half("procrustes", left, maps[0], pool=pool, center=center, scale=scale),
            _half("procrustes", right, maps[1], pool=pool, center=center, scale=scale),
        )


class CCA(ClosedForm):
    """Canonical correlation analysis: the directions of either side that agree best, each at unit variance.

    `fit` solves for both sides; `correlations` `[out_dim]` are those of the kept directions, highest first (damped by
    the regularisation). `regularization` adds that share of the mean variance to every direction, so that directions
    of little variance, whose agreement is chance, do not win: the default suits about as many pairs as dimensions, many
    more pairs need less.
    Source: Hotelling 1936, Relations between two sets of variates; regularised: Vinod 1976, Canonical ridge.

    >>> x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    >>> left, right = CCA.fit(Embedding.from_vectors(x), Embedding.from_vectors(x[:, :2] * 5), regularization=0.0)
    >>> left.correlations
    tensor([1., 1.])
    """

    correlations: Tensor

    def __init__(self, in_dim: int, out_dim: int, *, pool: str = "native", regularization: float = 1.0) -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        if not 0 <= regularization < math.inf:
            raise ValueError(f"cca regularization {regularization} must be finite and not negative")
        self.regularization = regularization
        self.register_buffer("correlations", torch.zeros(out_dim))

    @staticmethod
    def fit(
        a: Embedding,
        b: Embedding,
        out_dim: int | None = None,
        *,
        pool: str = "native",
        regularization: float = 1.0,
    ) -> tuple[CCA, CCA]:
        """Both sides' fitted aligners, from pairs: row i of `a` belongs to row i of `b`.

        Each side is centred and whitened by its singular value decomposition in float64, directions without variance
        left out; the singular vectors of what remains in common are the directions. `out_dim` None keeps all there
        are: the smaller rank of the two sides. With no more pairs than dimensions the unregularised problem has
        perfect, empty solutions, and is refused. Pairs of which one half is absent are left out. Raises ValueError for
        that, for more directions than there are, and as `Procrustes.fit`.
        """
        left, right = _sides(a, b, pool, center=True)
        rows, widest = len(left.rows), max(a.dim, b.dim)
        if regularization == 0 and rows <= widest:
            raise ValueError(
                f"cca of {rows} pairs in {widest} dimensions fits anything: give a regularization, like 1.0"
            )
        (white_a, basis_a), (white_b, basis_b) = _whiten(left, regularization), _whiten(right, regularization)
        u, correlations, vt = torch.linalg.svd(basis_a.T @ basis_b, full_matrices=False)
        size = len(correlations) if out_dim is None else out_dim
        if not 1 <= size <= len(correlations):
            raise ValueError(
                f"cca: {rows} pairs of {a.dim} and {b.dim} dimensions have {len(correlations)} directions in "
                f"common, so out_dim {size} is out of range"
            )
        map_a, map_b = white_a @ u[:, :size], white_b @ vt[:size].T
        signs = _signs(map_a)
        halves = (
            _half("cca", left, map_a * signs, pool=pool, regularization=regularization),
            _half("cca", right, map_b * signs, pool=pool, regularization=regularization),
        )
        for half in halves:
            half.correlations = correlations[:size].clamp_max(1).to(half.weight)
        return halves


class _Side(NamedTuple):
    """One side of the pairs: centred rows `[n, d]` and mean `[d]` in float64 on the CPU; where its map belongs."""

    rows: Tensor
    mean: Tensor
    dtype: torch.dtype
    device: torch.device


def _sides(a: Embedding, b: Embedding, pool: str, center: bool) -> tuple[_Side, _Side]:
    if len(a) != len(b):
        raise ValueError(f"fit takes pairs: a has {len(a)} rows, b {len(b)}")
    here = (a.present & b.present.to(a.mask.device)).cpu()
    if int(here.sum()) < 2:
        raise ValueError(f"fit needs at least two pairs, got {int(here.sum())} of which both halves are present")
    return _side(a, here, pool, center, "a"), _side(b, here, pool, center, "b")


def _side(x: Embedding, here: Tensor, pool: str, center: bool, name: str) -> _Side:
    pooled = x.pool(pool) if pool in ("mean", "first", "last") and not x.single else x
    rows = pooled.vectors.detach().to("cpu", torch.float64)
    bad = here & ~rows.isfinite().all(1)
    if bad.any():
        where = bad.nonzero()[:, 0].tolist()
        raise ValueError(f"fit: {len(where)} rows of {name} hold NaN or infinity, the first is row {where[0]}")
    rows = rows[here]
    mean = rows.mean(0) if center else rows.new_zeros(x.dim)
    centred = rows - mean
    if centred.norm() <= 1e-12 * rows.norm():
        raise ValueError(f"fit: the rows of {name} are all the same, so there is nothing to align")
    dtype = torch.promote_types(x.values.dtype, torch.float32)
    return _Side(centred, mean, dtype, x.values.device)


def _whiten(side: _Side, regularization: float) -> tuple[Tensor, Tensor]:
    """The map `[d, r]` that whitens `n` rows of rank r, and what it makes of them over sqrt(n - 1), `[n, r]`."""
    u, s, vt = torch.linalg.svd(side.rows, full_matrices=False)
    # What lies below the features' own rounding is no direction: whitened, it would be as loud as the others.
    noise = max(torch.finfo(side.dtype).eps, max(side.rows.shape) * torch.finfo(s.dtype).eps)
    keep = s > s[0] * noise
    u, s, vt = u[:, keep], s[keep], vt[keep]
    damped = (s.square() + regularization * side.rows.square().sum() / side.rows.shape[1]).sqrt()
    return vt.T / damped * math.sqrt(len(u) - 1), u * (s / damped)


def _half(name: str, side: _Side, weight: Tensor, **kwargs: object) -> Any:
    """One side's aligner, built by its registered name, so that a space that holds it can be saved."""
    from coembed.plugins import load

    half = load(name, "aligner", in_dim=weight.shape[0], out_dim=weight.shape[1], **kwargs)
    half._take(side, weight)
    return half


def _eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def _signs(columns: Tensor) -> Tensor:
    """Signs that make each column's largest entry positive: a decomposition leaves them to chance."""
    largest = columns.gather(0, columns.abs().argmax(0, keepdim=True))[0]
    return torch.where(largest < 0, -1.0, 1.0).to(columns.dtype)
