"""What an optimizer needs to know of a space: which parameters train, at which rate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from torch import nn

from coembed.plugins import CoembedWarning
from coembed.registry import near
from coembed.training.blocks import depths

if TYPE_CHECKING:
    from coembed.space import Space
    from coembed.tasks import Task


def parameter_groups(
    space: Space,
    tasks: Sequence[Task],
    towers: Sequence[str],
    lr: float | Mapping[str, float],
    decay: float,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Parameter groups with their peak rates: one rate a tower, no decay for norms, biases and the tasks' scalars.

    With `layer_decay` block i of an encoder's n gets the tower's rate times `layer_decay ** (n - i)`, what lies below
    the first block `layer_decay ** n`; the head and what lies above the blocks get the rate itself.
    Raises ValueError if nothing trains, `lr` names a tower that is not there or leaves one out, a rate is no number
    from 0, or two towers share an encoder, or weights of their heads, that one trains and the other keeps.
    Source: Clark et al. 2020, ELECTRA, appendix A (layer-wise decay).
    """
    peaks = _peaks(lr, towers)
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay {layer_decay} must lie above 0 and up to 1 (1: all layers alike), such as 0.9")
    _check_sharing(space, towers)
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    seen: set[int] = set()  # two towers may share an encoder object
    layered = False
    for name in towers:
        fresh = [p for p in space[name].trainable().values() if id(p) not in seen]
        seen |= {id(p) for p in fresh}
        factor = _factors(space, tasks, name, layer_decay) if layer_decay < 1 else {}
        layered = layered or bool(factor)
        for matrix in (True, False):
            for p in fresh:
                if (p.ndim > 1) == matrix:
                    groups.setdefault((name, factor.get(id(p), 1.0), matrix), []).append(p)
    if not groups:
        raise ValueError(
            f"nothing trains: the towers {', '.join(towers)} are locked, or have neither a head nor an encoder that "
            "trains; unlock one, or give it aligner='linear' or train='all'"
        )
    if layer_decay < 1 and not layered:
        what = f"layer_decay={layer_decay} will change nothing: no encoder with blocks trains; see the train words"
        warnings.warn(what, CoembedWarning, stacklevel=3)
    found: list[dict[str, Any]] = [
        {"params": params, "peak": peaks[name] * share, "weight_decay": decay if matrix else 0.0}
        for (name, share, matrix), params in groups.items()
    ]
    scalars = {id(p): p for task in tasks for p in task.parameters() if p.requires_grad}
    if scalars:
        top = max(group["peak"] for group in found)
        found.append({"params": list(scalars.values()), "peak": top, "weight_decay": 0.0})
    return found


def _peaks(lr: float | Mapping[str, float], towers: Sequence[str]) -> dict[str, float]:
    """The peak rate of every tower."""
    given = lr if isinstance(lr, Mapping) else {"*": lr}
    for name, rate in given.items():
        which = f"lr of {name}" if isinstance(lr, Mapping) else "lr"
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not (math.isfinite(rate) and rate >= 0):
            raise ValueError(f"{which} is {rate!r}: a number from 0 is expected, such as 1e-3")
    if unknown := [name for name in given if name not in towers and name != "*"]:
        close = near(str(unknown[0]), towers)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"lr names {', '.join(unknown)}, towers that do not train here: {', '.join(towers)}{hint}")
    for name in towers:
        if name not in given and "*" not in given:
            raise ValueError(f"lr names {', '.join(given)}, but nothing for {name}: add it, or '*' for the others")
    return {name: given.get(name, given.get("*", 0.0)) for name in towers}


def _factors(space: Space, tasks: Sequence[Task], name: str, layer_decay: float) -> dict[int, float]:
    """What the rate of each of an encoder's parameters is multiplied by; empty if its blocks do not train."""
    tower = space[name]
    blocks = tower.encoder.blocks()
    if tower.locked or not any(p.requires_grad for block in blocks for p in block.parameters()):
        return {}
    items = (record[name] for task in tasks if name in task.towers for record in task.source if name in record)
    deep = depths(tower.encoder, next(items))
    return {p: layer_decay ** max(0, len(blocks) - depth) for p, depth in deep.items()}


def _check_sharing(space: Space, towers: Sequence[str]) -> None:
    """No tower may keep an encoder that another one trains, nor train it in another way."""
    for one, two in combinations(space, 2):
        a, b = space[one], space[two]
        alike = a.frozen == b.frozen and (a.frozen or a.train_word == b.train_word)
        shared = {id(p) for p in a.encoder.parameters()} & {id(p) for p in b.encoder.parameters()}
        if shared and not alike and any(not space[name].frozen for name in (one, two) if name in towers):
            words = [
                f"{name} {'is locked' if t.locked else f'trains {t.train_word!r}'}" for name, t in ((one, a), (two, b))
            ]
            raise ValueError(
                f"two towers share one encoder, but {' and '.join(words)}: give both the same train word, or build an "
                "encoder for each"
            )
        common = {id(p) for p in a.aligner.parameters()} & {id(p) for p in b.aligner.parameters()}
        if common and a.locked != b.locked and any(not space[name].locked for name in (one, two) if name in towers):
            raise ValueError(
                f"towers {one} and {two} share weights of their heads, but one is locked: unlock both, lock both, or "
                "give them heads of their own"
            )


def rate_factor(step: int, total: int, warmup: float) -> float:
    """Share of the peak rate at a step: linear up over the first `warmup` of the steps, then a cosine to zero.

    >>> [round(rate_factor(step, 4, 0.5), 2) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    ramp = max(1, round(warmup * total))
    if step < ramp:
        return (step + 1) / ramp
    return 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(1, total - ramp)))
