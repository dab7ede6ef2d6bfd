"""Self Positioning: where to merge is learned, as weights of the experts and a scale, on a small probe set."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed.arguments import number
from coembed.merging.alike import check_spaces
from coembed.merging.buffers import Buffers
from coembed.merging.linear import linear
from coembed.merging.merge import assembled, opened, provenance, varying
from coembed.merging.probe import Probe
from coembed.merging.slerp import slerp_factors
from coembed.merging.vectors import Named, added, combined, gram, task_vector
from coembed.space import Space
from coembed.tasks import Task

ONE = math.log(math.e - 1)  # softplus of this is 1


@dataclass(frozen=True)
class Position:
    """Where self-positioning ended: the merged space, the experts' weights and the scale that it learned.

    `losses` are the probe's by step, with the penalty; `before` and `after` are their mean over the same batches at the
    start and at the end. `metrics` are those of the candidates, if a metric chose, and `chosen` is the one it chose.
    """

    space: Space
    weights: tuple[float, ...]
    scale: float
    losses: tuple[float, ...]
    before: float
    after: float
    chosen: str
    metrics: Mapping[str, float]


class Point(nn.Module):
    """A point in the span of task vectors: positive weights of an iterative slerp and a positive scale.

    Both start at 1 and are kept positive by softplus. `products` are the vectors' inner products `[N, N]`.

    >>> Point(torch.eye(2, dtype=torch.float64)).factors()
    tensor([0.7071, 0.7071], dtype=torch.float64, grad_fn=<MulBackward0>)
    """

    def __init__(self, products: Tensor) -> None:
        super().__init__()
        self.products = products
        self.raw_weights = nn.Parameter(torch.full((len(products),), ONE, dtype=torch.float64))
        self.raw_scale = nn.Parameter(torch.tensor(ONE, dtype=torch.float64))

    @property
    def weights(self) -> Tensor:
        """The experts' weights `[N]`."""
        return F.softplus(self.raw_weights)

    @property
    def scale(self) -> Tensor:
        """How far along the merged vector."""
        return F.softplus(self.raw_scale)

    def factors(self) -> Tensor:
        """How much of each task vector is added to the base, `[N]`."""
        return self.scale * slerp_factors(self.products, self.weights)

    def at(self, base: Named, vectors: Sequence[Named]) -> dict[str, Tensor]:
        """The weights at this point, differentiable in the point."""
        found, factors = {}, self.factors()
        for name, start in base.items():
            parts = [factor.to(start) * vector[name] for factor, vector in zip(factors, vectors, strict=True)]
            found[name] = start + torch.stack(parts).sum(0)
        return found


def self_position(
    base: Space | Path | str,
    experts: Sequence[Space | Path | str],
    tasks: Sequence[Task],
    *,
    mu: float = 0.05,
    steps: int = 200,
    batch_size: int = 64,
    lr: float = 0.05,
    seed: int = 0,
    metric: Callable[[Space], float] | None = None,
    buffers: Buffers = "average",
) -> Position:
    """Merge experts of one start where a small probe set says: by SGD on N weights and one scale.

    Minimises the mean loss of `tasks` (contrasts over the probe's records, each task counted alike) plus mu * scale at
    base + scale * V(weights), V the iterative slerp of the experts' task vectors (`slerp_factors`). Nothing but these
    N + 1 numbers is learned; base and experts stay as they are. With a `metric` of a space, higher being better (such
    as `retrieval(tasks)`), the plain average of the experts is a candidate too, and the better one is the result: the
    probe's loss alone punishes confident experts, whose scale then shrinks.
    Raises MergeError for spaces that can't be merged, ValueError for a task that has no usable record.
    Source: Self Positioning (arXiv 2410.15035); its formulas as a re-implementation gives them.

    >>> from coembed import Contrast, Records
    >>> from coembed.testing import toy_encoder
    >>> spaces = [Space({"a": toy_encoder(dim=4), "b": toy_encoder(dim=4)}) for _ in range(3)]
    >>> for i, space in enumerate(spaces):
    ...     _ = space["a"].encoder.table.weight.data[i].add_(1.0)
    >>> words = ["one", "two", "three"]
    >>> found = self_position(spaces[0], spaces[1:], [Contrast(Records.pairs(a=words, b=words), ("a", "b"))], steps=2)
    >>> len(found.weights), found.chosen
    (2, 'self-position')
    """
    number("mu", mu)
    number("steps", steps, whole=True)
    number("lr", lr, above=True)
    start, given, names = opened(base, experts)
    assert start is not None
    check_spaces(start, given, names)
    parameters = varying(start, given)
    point, losses, before, after = _search(start, parameters, tasks, mu, steps, batch_size, lr, seed)
    weights, scale = tuple(point.weights.tolist()), point.scale.item()
    if len(given) == 1 and scale == 1.0:
        found: Mapping[str, Tensor] = parameters[1]
    else:
        vectors = [task_vector(parameters[0], expert) for expert in parameters[1:]]
        found = added(parameters[0], combined(vectors, point.factors().tolist())) if parameters[0] else {}
    settings = {"how": "self-position", "weights": list(weights), "scale": scale, "mu": mu, "steps": steps}
    settings |= {"batch_size": batch_size, "lr": lr, "seed": seed, "probe": [task.describe() for task in tasks]}
    space = assembled(start, given, found, weights, buffers, provenance(start, given, names, settings))
    metrics, chosen = {}, "self-position"
    if metric is not None:
        average = linear(parameters[1:]) if parameters[0] else {}
        made = provenance(start, given, names, {"how": "linear", "weights": None, "scale": 1.0, "chosen": "by metric"})
        mean = assembled(start, given, average, None, buffers, made)
        metrics = {"self-position": metric(space), "average": metric(mean)}
        if not metrics["self-position"] > metrics["average"]:
            space, chosen = mean, "average"
    return Position(space, weights, scale, losses, before, after, chosen, metrics)


def _search(
    start: Space,
    parameters: Sequence[Named],
    tasks: Sequence[Task],
    mu: float,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> tuple[Point, tuple[float, ...], float, float]:
    """The point that was found, the loss of every step, and the mean loss at the start and the end."""
    base = dict(parameters[0])
    wide = [task_vector(base, expert) for expert in parameters[1:]]
    vectors = [{name: tensor.to(base[name]) for name, tensor in vector.items()} for vector in wide]
    point = Point(gram(wide))
    probe = Probe(copy.deepcopy(start), tasks, list(base), steps=steps, batch_size=batch_size, seed=seed)
    optimizer = torch.optim.Adam(point.parameters(), lr=lr)

    def loss(step: int) -> Tensor:
        return probe.loss(step, point.at(base, vectors)) + mu * point.scale

    def mean() -> float:
        some = range(min(max(1, steps), 8))
        with torch.no_grad():
            return float(torch.stack([loss(step) for step in some]).mean())

    losses: list[float] = []
    before = mean()
    for step in range(steps):
        optimizer.zero_grad()
        value = loss(step)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return point, tuple(losses), before, mean()
