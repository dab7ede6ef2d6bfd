"""Averages of the weights over the steps of a run (EMA): what is evaluated and kept, beside what trains on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Averages(nn.Module):
    """The exponential average of parameters over the steps, without the bias of a start: after step t the weight of
    step s is in proportion to `decay ** (t - s)`, and all weights add up to one.

    So after few steps it is close to their plain mean, and never holds a share of the untrained weights. Kept in
    float32 or wider. Its state is part of a run's checkpoints, beside the raw weights. Raises ValueError unless decay
    lies between 0 and 1.
    Source: Kingma and Ba 2015, Adam, section 7.2.

    >>> weight = nn.Parameter(torch.zeros(1))
    >>> average = Averages({"w": weight}, 0.5)
    >>> for step, value in enumerate([3.0, 6.0], 1):
    ...     _ = weight.data.fill_(value)
    ...     average.update(step)
    >>> with average.applied():  # (0.5 * 3 + 6) / 1.5
    ...     print(weight.item())
    5.0
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        super().__init__()
        if not 0 < decay < 1:
            raise ValueError(f"ema {decay} must lie between 0 and 1, such as 0.999; None for no average")
        self.decay, self._raw = decay, list(parameters.values())
        self._names = [name.replace(".", "/") for name in parameters]  # a buffer's name has no dots
        for name, parameter in zip(self._names, self._raw, strict=True):
            wide = torch.promote_types(parameter.dtype, torch.float32)
            self.register_buffer(name, parameter.detach().to(wide, copy=True))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`, counted from 1."""
        share = (1 - self.decay) / (1 - self.decay**step)  # of the newest weights: 1 at the first step
        for average, parameter in zip(self._averages(), self._raw, strict=True):
            average.lerp_(parameter.detach().to(average.dtype), share)

    @torch.no_grad()
    def settle(self) -> None:
        """Put the averages where the raw weights are, for good."""
        for average, parameter in zip(self._averages(), self._raw, strict=True):
            parameter.copy_(average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this block the averages are in place of the raw weights."""
        raw = [parameter.detach().clone() for parameter in self._raw]
        self.settle()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self._raw, raw, strict=True):
                    parameter.copy_(value)

    def _averages(self) -> list[Tensor]:
        return [self.get_buffer(name) for name in self._names]
