"""Task arithmetic: the sum of what each expert learned."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from coembed.merging.vectors import Named, combined


def task_arithmetic(vectors: Sequence[Named], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """The sum of task vectors times their weights (None: 1 each); a negative weight takes a skill away.

    How far to go along the sum is the caller's `scale`, chosen on held-out data in the paper.
    Source: Ilharco et al. 2023, Editing Models with Task Arithmetic, section 2.

    >>> import torch
    >>> task_arithmetic([{"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}], [1, -0.5])
    {'w': tensor([-1.], dtype=torch.float64)}
    """
    return combined(vectors, list(weights) if weights else [1.0] * len(vectors))
