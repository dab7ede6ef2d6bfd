"""What an optimizer needs to know of a space: which parameters train, at which rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coembed.space import Space
    from coembed.tasks import Task


def parameter_groups(
    space: Space, tasks: Sequence[Task], towers: Sequence[str], lr: float | Mapping[str, float], decay: float
) -> list[dict[str, Any]]:
    """Parameter groups with their peak rates: one rate a tower, no decay for norms, biases and the tasks' scalars.

    Raises ValueError if nothing trains, or `lr` names a tower that is not there or leaves one out.
    """

    def peak(name: str) -> float:
        if not isinstance(lr, Mapping):
            return lr
        if name not in lr and "*" not in lr:
            raise ValueError(f"lr names {', '.join(lr)}, but nothing for {name}: add it, or '*' for the others")
        return lr.get(name, lr.get("*", 0.0))

    if isinstance(lr, Mapping) and (unknown := set(lr) - set(towers) - {"*"}):
        raise ValueError(f"lr names {', '.join(sorted(unknown))}, towers that do not train here: {', '.join(towers)}")
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()  # two towers may share an encoder object
    for name in towers:
        fresh = [p for p in space[name].trainable().values() if id(p) not in seen]
        seen |= {id(p) for p in fresh}
        for keep, params in ((decay, [p for p in fresh if p.ndim > 1]), (0.0, [p for p in fresh if p.ndim < 2])):
            if params:
                groups.append({"params": params, "peak": peak(name), "weight_decay": keep})
    if not groups:
        raise ValueError(
            f"nothing trains: the towers {', '.join(towers)} are locked, or have neither a head nor an encoder that "
            "trains; unlock one, or give it aligner='linear' or train='all'"
        )
    scalars = {id(p): p for task in tasks for p in task.parameters() if p.requires_grad}
    if scalars:
        top = max(group["peak"] for group in groups)
        groups.append({"params": list(scalars.values()), "peak": top, "weight_decay": 0.0})
    return groups


def rate_factor(step: int, total: int, warmup: float) -> float:
    """Share of the peak rate at a step: linear up over the first `warmup` of the steps, then a cosine to zero.

    >>> [round(rate_factor(step, 4, 0.5), 2) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    ramp = max(1, round(warmup * total))
    if step < ramp:
        return (step + 1) / ramp
    return 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(1, total - ramp)))
