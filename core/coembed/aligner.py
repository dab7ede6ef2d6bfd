"""Aligner: token features to the shared space: reduce, project, normalise."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.spec import Spec

POOLS = ("native", "mean", "first", "last", "none")


class Aligner(nn.Module, ABC):
    """A head from features `[B, T, in_dim]` to unit vectors `[B, T', out_dim]`.

    `pool` says how tokens become one vector before the projection: "native" (the encoder's own pooling, applied by the
    tower), "mean", "first", "last", or "none" (all tokens go through: late interaction, or a learned pooling in
    `project`). What pool "native" to "last" gives has no parameters here, so a frozen tower's features are cached at
    that point. An author writes `project`. Raises ValueError for an unknown pool or widths below 1.
    """

    spec: Spec | None = None

    def __init__(self, in_dim: int, out_dim: int, *, pool: str = "native") -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"aligner pool {pool!r}: use one of {', '.join(POOLS)}")
        if in_dim < 1 or out_dim < 1:
            raise ValueError(f"aligner widths {in_dim} to {out_dim} must be positive")
        self.in_dim, self.out_dim, self.pool = in_dim, out_dim, pool

    @abstractmethod
    def project(self, x: Embedding) -> Embedding:
        """Features after `pool` to the space, not yet normalised."""

    def adapt(self, features: Embedding) -> None:
        """See the features of a frozen tower once before training starts, such as to learn their scale.

        They are those of all items, or an even sample where there are more than 100,000.
        """

    def join(self, others: Sequence[Aligner]) -> None:
        """Meet the heads that are in a space already, when this one joins them: to share weights with them."""

    def forward(self, x: Embedding) -> Embedding:
        """Pool what tokens are left as `pool` says, project, normalise; raises ValueError for a wrong width."""
        if x.dim != self.in_dim:
            raise ValueError(f"{type(self).__name__} takes features of width {self.in_dim}, got {x.dim}")
        if self.pool in ("mean", "first", "last") and not x.single:
            x = x.pool(self.pool)
        # Masked tokens may hold anything, NaN included, which would reach the weights' gradient.
        clean = x if x.mask.all() else with_values(x, x.values.masked_fill(~x.mask.unsqueeze(-1), 0))
        return self.project(clean).normalize()


class Identity(Aligner):
    """The encoder's own space, only normalised: for towers that already share one, such as a CLIP pair.

    >>> import torch
    >>> Identity(2, 2)(Embedding.from_vectors(torch.tensor([[3.0, 4.0]]))).vectors
    tensor([[0.6000, 0.8000]])
    """

    def __init__(self, in_dim: int, out_dim: int, *, pool: str = "native") -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        if in_dim != out_dim:
            raise ValueError(f"an identity aligner can't go from {in_dim} to {out_dim}: use 'linear'")

    def project(self, x: Embedding) -> Embedding:
        """The features as they are."""
        return x


class Linear(Aligner):
    """One linear map; it starts as the identity where the widths are equal, else with orthogonal rows or columns.

    So towers that share a space already start from it, and the others keep their features' geometry. `standardize`
    first brings every feature of a frozen tower to mean 0 and variance 1, as measured on the training items: backbones
    whose few largest features drown the others need it.

    >>> import torch
    >>> Linear(8, 4)(Embedding.from_vectors(torch.ones(2, 8))).dim
    4
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, in_dim: int, out_dim: int, *, pool: str = "native", bias: bool = False, standardize: bool = False
    ) -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        self.standardize = standardize
        if standardize:
            self.register_buffer("mean", torch.zeros(in_dim))
            self.register_buffer("scale", torch.ones(in_dim))
        self.map = nn.Linear(in_dim, out_dim, bias=bias)
        (nn.init.eye_ if in_dim == out_dim else nn.init.orthogonal_)(self.map.weight)

    def adapt(self, features: Embedding) -> None:
        """Measure mean and variance, if `standardize`; a feature that never changes is left at 0."""
        if self.standardize:
            real = features.values[features.mask].double()
            spread = real.std(0, correction=0)
            self.mean.copy_(real.mean(0))
            self.scale.copy_(torch.where(spread > 0, 1 / spread.clamp_min(1e-12), 0))

    def project(self, x: Embedding) -> Embedding:
        """Every vector through the map."""
        values = (x.values - self.mean) * self.scale if self.standardize else x.values
        return with_values(x, self.map(values))


class MLP(Aligner):
    """A residual-free head of `layers` linear maps with GELU between and an optional norm at the entry.

    >>> import torch
    >>> MLP(8, 4, hidden=16)(Embedding.from_vectors(torch.ones(2, 8))).dim
    4
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        pool: str = "native",
        hidden: int | None = None,
        layers: int = 2,
        dropout: float = 0.0,
        norm: bool = True,
    ) -> None:
        super().__init__(in_dim, out_dim, pool=pool)
        if layers < 2:
            raise ValueError(f"an mlp aligner with {layers} layers: at least 2, or use 'linear'")
        width = hidden or max(in_dim, out_dim)
        parts: list[nn.Module] = [nn.LayerNorm(in_dim)] if norm else []
        for i in range(layers - 1):
            parts += [nn.Linear(in_dim if i == 0 else width, width), nn.GELU(), nn.Dropout(dropout)]
        self.map = nn.Sequential(*parts, nn.Linear(width, out_dim))

    def project(self, x: Embedding) -> Embedding:
        """Every vector through the maps."""
        return with_values(x, self.map(x.values))


def with_values(x: Embedding, values: Tensor) -> Embedding:
    """Projected values under the old mask; declared sizes end here, since a projection mixes all dimensions."""
    return Embedding(values, x.mask)


def pool_of(name: str, options: Mapping[str, Any]) -> str:
    """How a registered aligner reduces tokens before its map: as the options say, or else as its own default does."""
    from coembed.plugins import locate

    target, _, spec = locate(name, "aligner", options)
    own = inspect.signature(target).parameters.get("pool")
    return str(spec.kwargs.get("pool", own.default if own is not None else "native"))


def aligner_for(given: str | Aligner, in_dim: int, out_dim: int, **kwargs: Any) -> Aligner:
    """An aligner from a registered name, or the object itself with its widths checked."""
    from coembed.plugins import load

    if isinstance(given, str):
        built: Aligner = load(given, "aligner", in_dim=in_dim, out_dim=out_dim, **kwargs)
        return built
    if given.in_dim != in_dim or given.out_dim != out_dim:
        want, got = f"{in_dim} to {out_dim}", f"{given.in_dim} to {given.out_dim}"
        raise ValueError(f"{type(given).__name__} goes from {got}, the tower needs {want}")
    return given
