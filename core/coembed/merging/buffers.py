"""What is in a module's state and no weight: running statistics, measured scales, counters, tables of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from coembed.merging.linear import normalized
from coembed.merging.vectors import MergeError, combined

Buffers = Literal["average", "base"]


def merged_buffers(
    base: nn.Module, experts: Sequence[nn.Module], weights: Sequence[float], how: Buffers = "average"
) -> dict[str, Tensor]:
    """The buffers of a merged module: never part of a task vector, since a statistic is no direction.

    "average" takes the experts' weighted mean of those of floating point, such as the running statistics of norms; a
    whole number that counts (one without dimensions) stays the base's, and so does any buffer that is equal everywhere.
    "base" keeps the base's. Raises MergeError naming a table of whole numbers that differs under "average".

    >>> one, two = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    >>> _ = two.running_mean.fill_(4.0)
    >>> merged_buffers(one, [one, two], [1, 1])["running_mean"]
    tensor([2.])
    """
    if how not in ("average", "base"):
        raise MergeError(f"buffers={how!r}: use 'average' or 'base'")
    found = {}
    given: list[Mapping[str, Tensor]] = [_kept(expert) for expert in experts]
    for name, own in _kept(base).items():
        theirs = [buffers[name].to(own.device) for buffers in given]
        counts = own.ndim == 0 and not own.is_floating_point()
        if how == "base" or counts or all(torch.equal(own, other) for other in theirs):
            found[name] = own.clone()
        elif own.is_floating_point():
            mean = combined([{name: t} for t in theirs], normalized([abs(weight) for weight in weights]))
            found[name] = mean[name].to(own.dtype)
        else:
            raise MergeError(
                f"{name} holds {str(own.dtype).removeprefix('torch.')} numbers that differ between the spaces and have "
                "no mean: buffers='base' keeps the base's"
            )
    return found


def _kept(module: nn.Module) -> dict[str, Tensor]:
    """Buffers that a saved state holds."""
    state = module.state_dict()
    return {name: buffer for name, buffer in module.named_buffers() if name in state}
