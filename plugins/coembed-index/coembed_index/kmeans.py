"""k-means of many small problems at once, the same for the same seed, without empty clusters where that is possible."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["assign", "kmeans"]

_SCORES = 1 << 23  # distances held at once, 32 MB


def kmeans(x: Tensor, k: int, *, rounds: int = 10, seed: int = 0, start: Tensor | None = None) -> Tensor:
    """Centres `[M, K, d]` of M sets of points `[M, N, d]`, by Lloyd's rounds from points drawn by `seed`, or `start`.

    A cluster that nothing is nearest to moves to the point that is farthest from its own centre. With fewer points
    than `k` some centres are copies.

    >>> x = torch.tensor([[[0.0], [0.1], [5.0], [5.1]]])
    >>> kmeans(x, 2).sort(1).values.flatten().tolist()
    [0.05000000074505806, 5.050000190734863]
    """
    count, generator = x.shape[1], torch.Generator().manual_seed(seed)
    if start is None:
        drawn = torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-k // max(1, count)))])[:k]
        centres = x[:, drawn].clone()
    else:
        centres = start.clone()
    for _ in range(rounds):
        nearest, distances = assign(x, centres)
        sums = torch.zeros_like(centres).scatter_add_(1, nearest[..., None].expand_as(x), x)
        sizes = torch.zeros(centres.shape[:2]).scatter_add_(1, nearest, torch.ones_like(distances))
        centres = torch.where(sizes[..., None] > 0, sums / sizes.clamp_min(1)[..., None], centres)
        for m in (sizes == 0).any(1).nonzero().flatten().tolist():
            empty = (sizes[m] == 0).nonzero().flatten()[:count]
            centres[m, empty] = x[m, distances[m].topk(len(empty)).indices]
    return centres


def assign(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """For points `[M, N, d]` the number of the nearest of the centres `[M, K, d]` and its squared distance, `[M, N]`.

    >>> assign(torch.tensor([[[0.2]]]), torch.tensor([[[1.0], [0.0]]]))[0]
    tensor([[1]])
    """
    nearest, distances = [], []
    lengths = centres.square().sum(-1)
    for part in x.split(max(1, _SCORES // max(1, len(x) * centres.shape[1])), dim=1):
        rest = torch.baddbmm(lengths[:, None], part, centres.transpose(1, 2), alpha=-2)  # less the point's own length
        best = rest.min(-1)
        nearest.append(best.indices)
        distances.append((best.values + part.square().sum(-1)).clamp_min_(0))
    return torch.cat(nearest, 1), torch.cat(distances, 1)
