"""The weighted mean of weights: a model soup."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from coembed.merging.vectors import MergeError, Named, combined


def linear(experts: Sequence[Named], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """The mean of the experts' weights, in their own types; `weights` (None: equal) are made to add up to 1.

    Raises MergeError for other names or shapes, or weights that add up to nothing.
    Source: Wortsman et al. 2022, Model soups, section 2 (uniform soup).

    >>> import torch
    >>> linear([{"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])}], [3, 1])
    {'w': tensor([1.])}
    """
    shares = normalized(weights or [1.0] * len(experts))
    mean = combined(experts, shares)
    return {name: tensor.to(experts[0][name].dtype) for name, tensor in mean.items()}


def normalized(weights: Sequence[float]) -> list[float]:
    """Weights over their sum; raises MergeError if that is not positive.

    >>> normalized([3, 1])
    [0.75, 0.25]
    """
    total = sum(weights)
    if not total > 0:
        raise MergeError(f"weights {list(weights)} add up to {total:g}: a mean needs a positive sum")
    return [weight / total for weight in weights]
