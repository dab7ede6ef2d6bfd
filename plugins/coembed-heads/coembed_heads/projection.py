"""The last map of a head: from the encoder's width to the space's."""

from __future__ import annotations

from torch import nn

__all__ = ["projection"]


def projection(width: int, out: int) -> nn.Module:
    """Nothing where the widths are equal, else a linear map that starts with orthogonal rows or columns.

    >>> projection(4, 4)
    Identity()
    """
    if width == out:
        return nn.Identity()
    linear = nn.Linear(width, out, bias=False)
    nn.init.orthogonal_(linear.weight)
    return linear
