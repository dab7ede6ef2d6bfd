"""One step of training: a batch through its towers, the loss, the gradient, the update."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from coembed.moment import Moment, at
from coembed.nn.seeding import counter
from coembed.objectives.scale import Scale
from coembed.sharing import ALONE, shared
from coembed.sources import Record
from coembed.tasks import Contrast, Pretext, Task
from coembed.training.columns import Batch
from coembed.training.distributed import ONE, Ranks
from coembed.training.embedder import Embedder, Features, seeded
from coembed.training.optim import rate_factor
from coembed.training.sampler import Schedule
from coembed.training.stages import Leg

if TYPE_CHECKING:
    from coembed.space import Space


@dataclass(frozen=True)
class Step:
    """Takes step s of a run: which records, which task and all randomness are functions of the seed and s.

    `leg` is the stage that the step belongs to, `features` those of each task of the run; `precision` is "fp32" or
    "bf16". Several processes (`ranks`) take the step together and end it with the same weights.
    """

    space: Space
    leg: Leg
    features: Mapping[int, Features]
    schedule: Schedule
    optimizer: torch.optim.Optimizer
    micro_batch: int | None
    precision: str
    seed: int
    ranks: Ranks = ONE

    def __call__(self, step: int) -> dict[str, Any]:
        """Take a step; returns its row of the history. Raises ValueError if the loss is not finite."""
        began = time.perf_counter()
        device = next(self.space.parameters()).device
        within = step - self.leg.start
        place, rows = self.schedule.batch(within)
        index, task, columns = self.leg.numbers[place], self.leg.tasks[place], self.leg.columns[place]
        own = counter(self.seed, "step", step)  # all randomness of a step, so that it can happen again
        hard = [found for found in (self.schedule.hard(within), task.hard(columns, rows, own)) if found is not None]
        batch = Batch(columns, rows, torch.cat(hard, dim=1) if hard else None)
        factor = rate_factor(within, self.leg.steps, self.leg.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        features = self.features.get(index, {})
        places = batch.at.tolist()
        embed = Embedder(self.space, batch, places, features, micro_batch=self.micro_batch, seed=own, ranks=self.ranks)
        with self._autocast(device), at(Moment.of(within, self.leg.steps, self.leg.start)):
            loss = part_of_loss(task, batch, embed, self.space, self.ranks, own)
        value = self.ranks.add(loss.detach().clone()).item()  # before the check, so that all ranks stop or none
        if not math.isfinite(value):
            peak = max(group["peak"] for group in self.optimizer.param_groups)
            raise ValueError(f"step {step}: the loss is {value}; lower lr ({peak:g}) or check the data")
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:  # a part without rows of its own may not
            loss.backward()
        with self._autocast(device), at(Moment.of(within, self.leg.steps, self.leg.start)):
            embed.backward()
        add_gradients(self.ranks, parameters, task)
        if self.leg.clip:
            nn.utils.clip_grad_norm_(parameters, self.leg.clip)
        self.optimizer.step()
        self.ranks.equalize(buffer for module in (self.space, task) for buffer in moving(module))
        rate = self.optimizer.param_groups[0]["lr"]
        row = {"step": step + 1, "task": index, "loss": value, "lr": rate}
        return {**row, "seconds": round(time.perf_counter() - began, 4)}

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()


def part_of_loss(task: Task, batch: Sequence[Record], embed: Embedder, space: Space, ranks: Ranks, seed: int) -> Tensor:
    """This process's part of the loss of a batch: over the processes, parts and their gradients add up to the whole.

    A contrast sees all vectors and answers for its own rows; an additive pretext sees its own rows only, weighted by
    their share; any other task, and a loss that knows nothing of sharing, is computed whole by every process and
    divided by their number.
    """
    device = next(space.parameters()).device
    if ranks.world == 1:
        with seeded(seed, device):
            return task.loss(batch, embed, space)
    if isinstance(task, Pretext) and task.additive:
        own = batch[ranks.share.part(len(batch))]
        if not own:
            return torch.zeros((), device=device)
        with seeded(counter(seed, ranks.rank), device):
            return task.loss(own, embed, space) * (len(own) / len(batch))
    sharing = isinstance(task, Contrast) and task.objective.shares
    with seeded(seed, device), shared(ranks.share if sharing else ALONE):
        loss = task.loss(batch, embed, space)
    return loss if sharing else loss / ranks.world


def add_gradients(ranks: Ranks, parameters: Iterable[nn.Parameter], task: Task) -> None:
    """Give every process the gradients of the whole batch, those of a bounded scale held at its ceiling."""
    ranks.add_gradients(parameters)
    for part in task.modules() if ranks.world > 1 else ():
        if isinstance(part, Scale):
            part.hold()


def moving(module: nn.Module) -> Iterator[Tensor]:
    """Buffers that training may change, such as the running statistics of norms: those of parts in training mode."""
    return (buffer for part in module.modules() if part.training for buffer in part.buffers(recurse=False))
