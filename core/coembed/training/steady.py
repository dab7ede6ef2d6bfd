"""Steady: state of a task that every process changes alike."""

from __future__ import annotations

from typing import Self

from torch import nn


class Steady(nn.Module):
    """Buffers that are a function of what all processes know, so that none has to be sent after a step.

    They are part of a run's checkpoints as any buffer is.
    """

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: buffers of parts in training mode are sent round after every step."""
        return super().train(False)
