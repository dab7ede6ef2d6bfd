"""One step of training: a batch through its towers, the loss, the gradient, the update."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from coembed.embedder import Embedder, Features, seeded
from coembed.optim import rate_factor
from coembed.sampler import Schedule, counter
from coembed.sources import Record
from coembed.tasks import Task

if TYPE_CHECKING:
    from coembed.space import Space


@dataclass(frozen=True)
class Step:
    """Takes step s of a run: which records, which task and all randomness are functions of the seed and s.

    `records` and `features` are those of each task; `precision` is "fp32" or "bf16".
    """

    space: Space
    tasks: Sequence[Task]
    records: Sequence[Sequence[Record]]
    features: Mapping[int, Features]
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    total: int
    warmup: float
    clip: float
    micro_batch: int | None
    precision: str
    seed: int

    def __call__(self, step: int) -> dict[str, Any]:
        """Take a step; returns its row of the history. Raises ValueError if the loss is not finite."""
        began = time.perf_counter()
        device = next(self.space.parameters()).device
        index, at = self.schedule.batch(step)
        task, batch = self.tasks[index], [self.records[index][i] for i in at]
        factor = rate_factor(step, self.total, self.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        own = counter(self.seed, "step", step)  # all randomness of a step, so that it can happen again
        features = self.features.get(index, {})
        embed = Embedder(self.space, batch, at, features, micro_batch=self.micro_batch, seed=own)
        with seeded(own, device), self._autocast(device):
            loss = task.loss(batch, embed, self.space)
        if not loss.isfinite():
            peak = max(group["peak"] for group in self.optimizer.param_groups)
            raise ValueError(f"step {step}: the loss is {loss.item()}; lower lr ({peak:g}) or check the data")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        with self._autocast(device):
            embed.backward()
        if self.clip:
            nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], self.clip)
        self.optimizer.step()
        rate = self.optimizer.param_groups[0]["lr"]
        row = {"step": step + 1, "task": index, "loss": loss.item(), "lr": rate}
        return {**row, "seconds": round(time.perf_counter() - began, 4)}

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
