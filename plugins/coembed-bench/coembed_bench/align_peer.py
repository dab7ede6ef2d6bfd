"""The same two heads trained by sentence-transformers' loss: same vectors, batches, start, rates and clipping."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from coembed.training.optim import rate_factor
from coembed.training.sampler import Schedule
from coembed_bench.report import Failed

__all__ = ["Heads", "Setting", "train"]


@dataclass(frozen=True)
class Setting:
    """What both systems are given."""

    batch_size: int
    steps: int
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    seed: int = 0
    temperature: float = 0.05  # sentence-transformers' scale of 20


class Heads(nn.Module):
    """Two `Dense` modules of sentence-transformers, chosen by the side that a batch of features names.

    It takes and gives dictionaries of features, as sentence-transformers' losses want of a model.
    """

    def __init__(self, start: Mapping[str, Tensor]) -> None:
        super().__init__()
        try:
            from sentence_transformers.sentence_transformer.modules import Dense
        except ImportError as error:
            raise Failed("sentence-transformers is not installed: pip install 'coembed-bench[peers]'") from error
        self.sides = nn.ModuleDict(
            {
                side: Dense(
                    w.shape[1], w.shape[0], bias=False, activation_function=nn.Identity(), init_weight=w.clone()
                )
                for side, w in start.items()
            }
        )

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Features of one side through its head."""
        found: dict[str, Any] = self.sides[features["side"]](dict(features))
        return found


def train(heads: Heads, text: Tensor, code: Tensor, setting: Setting) -> list[float]:
    """Train the heads in place on paired vectors `[N, D]`; returns the seconds of each step.

    Records come in the order of our own schedule and the rate follows our own curve, so that what differs is the loss,
    the forward and the backward pass. The optimizer is the same AdamW.
    """
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    # The type is that of a whole model; the loss only calls it on features.
    loss_of = MultipleNegativesRankingLoss(heads, scale=1 / setting.temperature)
    optimizer = torch.optim.AdamW(heads.parameters(), lr=setting.lr, weight_decay=setting.weight_decay)
    schedule = Schedule([len(text)], [1.0], batch_size=setting.batch_size, steps=setting.steps, seed=setting.seed)
    seconds = []
    for step in range(setting.steps):
        began = time.perf_counter()
        at = torch.tensor(schedule.batch(step)[1])
        for group in optimizer.param_groups:
            group["lr"] = setting.lr * rate_factor(step, setting.steps, setting.warmup)
        batch = [{"side": side, "sentence_embedding": rows[at]} for side, rows in (("text", text), ("code", code))]
        optimizer.zero_grad(set_to_none=True)
        loss_of(batch, torch.empty(0)).backward()
        nn.utils.clip_grad_norm_(heads.parameters(), setting.clip)
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    return seconds
