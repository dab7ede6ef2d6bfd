"""Named tensors as one long vector: what all merging is made of.

A task vector is what training added to a common start, expert - base, over all weights at once. Angles, norms and
thresholds here are those of the whole vector, never of one tensor. Sums are taken in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Named = Mapping[str, Tensor]


class MergeError(ValueError):
    """Weights that can't be merged; the message names the tensor, or the part, and what differs."""


def check_alike(first: Named, others: Sequence[Named]) -> None:
    """Raise MergeError unless all hold the same names with the same shapes.

    >>> check_alike({"w": torch.zeros(2)}, [{"w": torch.zeros(3)}])
    Traceback (most recent call last):
    coembed.merging.vectors.MergeError: w is [2] in the first, [3] in number 2: merge weights of one architecture
    """
    for number, other in enumerate(others, 2):
        for name in [*first, *(name for name in other if name not in first)]:
            if name not in other or name not in first:
                where = "the first" if name not in first else f"number {number}"
                raise MergeError(f"{name} is missing in {where}: merge weights of one architecture")
            one, two = list(first[name].shape), list(other[name].shape)
            if one != two:
                raise MergeError(
                    f"{name} is {one} in the first, {two} in number {number}: merge weights of one architecture"
                )


def task_vector(base: Named, expert: Named) -> dict[str, Tensor]:
    """What training added, expert - base, in float64; raises MergeError for other names or shapes.

    >>> task_vector({"w": torch.ones(2)}, {"w": torch.tensor([1.0, 3.0])})
    {'w': tensor([0., 2.], dtype=torch.float64)}
    """
    check_alike(base, [expert])
    return {name: _wide(expert[name], like=base[name]) - _wide(base[name]) for name in base}


def added(base: Named, vector: Named, scale: float = 1.0) -> dict[str, Tensor]:
    """base + scale * vector, in the base's own types."""
    return {name: (_wide(base[name]) + scale * vector[name]).to(base[name].dtype) for name in base}


def combined(vectors: Sequence[Named], factors: Sequence[float] | Tensor) -> dict[str, Tensor]:
    """The sum of vectors times their factors, in float64 if they are not wider already.

    >>> combined([{"w": torch.ones(2)}, {"w": torch.tensor([0.0, 4.0])}], [1.0, 0.5])
    {'w': tensor([1., 3.], dtype=torch.float64)}
    """
    check_alike(vectors[0], vectors[1:])
    found = {}
    for name, first in vectors[0].items():
        total = _wide(first) * factors[0]
        for vector, factor in zip(vectors[1:], factors[1:], strict=True):
            total = total + _wide(vector[name], like=first) * factor
        found[name] = total
    return found


def gram(vectors: Sequence[Named]) -> Tensor:
    """The inner products of vectors, `[N, N]` in float64: all that angles and norms need.

    >>> gram([{"a": torch.ones(2)}, {"a": torch.tensor([3.0, 0.0])}]).tolist()
    [[2.0, 3.0], [3.0, 9.0]]
    """
    check_alike(vectors[0], vectors[1:])
    products = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for name in vectors[0]:  # tensor by tensor: the vectors are never laid out whole
        rows = torch.stack([_wide(vector[name]).flatten().cpu() for vector in vectors])
        products += rows @ rows.T
    return products


def cosines(vectors: Sequence[Named]) -> Tensor:
    """The cosines between vectors, `[N, N]`; 0 with a vector that is all zeros.

    >>> cosines([{"a": torch.tensor([1.0, 0.0])}, {"a": torch.tensor([3.0, 3.0])}])[0, 1]
    tensor(0.7071, dtype=torch.float64)
    """
    products = gram(vectors)
    norms = products.diagonal().clamp_min(0).sqrt()
    return products / (norms[:, None] * norms[None, :]).clamp_min(torch.finfo(torch.float64).tiny)


def _wide(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """In float64 and, with `like`, on its device; a device without float64 keeps float32."""
    device = tensor.device if like is None else like.device
    return tensor.detach().to(device, torch.float32 if device.type == "mps" else torch.float64)
