"""The readout of graphs that have a root."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from coembed.embedding import Embedding


class MeanRoot(nn.Module):
    """The mean over the nodes beside the root, which is token 0, mapped back to `dim`.

    Source: GraphCLIP (Zhu et al. 2025), readout.

    >>> MeanRoot(4)(Embedding(torch.ones(1, 3, 4), torch.ones(1, 3, dtype=torch.bool))).values.shape
    torch.Size([1, 1, 4])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(2 * dim, dim)

    def forward(self, x: Embedding) -> Embedding:
        """[B, T, D] to [B, 1, D]."""
        mean = x.pool("mean")
        both = torch.cat([mean.values, x.pool("first").values], -1)  # [B, 1, 2D]
        return replace(mean, values=self.project(both).masked_fill(~mean.mask[..., None], 0.0))
