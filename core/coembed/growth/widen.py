"""Layers with more units: copies of the old ones, or the old ones and fresh random ones."""

from __future__ import annotations

import copy
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from coembed.growth.units import Units
from coembed.nn.pooling import Attention
from coembed.nn.seeding import init_weights

Fill = Literal["copies", "fresh"]
Layer = TypeVar("Layer", bound=nn.Module)


def widened(layer: Layer, out: Units | None = None, into: Units | None = None, *, fill: Fill = "copies") -> Layer:
    """A layer of the same kind that writes the units `out` and reads the units `into` (None: as before).

    With "copies" weights that write units are copied and those that read them divided by their number: the layer
    computes what it did, once a copy. The parameters of a norm, and biases, are copied and never divided. With "fresh"
    the old weights fill the first rows and columns and the others are random. Raises TypeError for a layer that is no
    linear map, convolution, table or layer norm.

    >>> wide = widened(nn.Linear(2, 2), into=Units.make(2, 4))
    >>> wide.in_features, wide.out_features
    (4, 2)
    """
    new = copy.deepcopy(layer)
    if isinstance(new, nn.Embedding):  # a table writes its columns
        new.weight = _parameter(new.weight, {1: out}, {}, fill)
        new.embedding_dim = new.weight.shape[1]
        if new.padding_idx is not None:
            with torch.no_grad():
                new.weight[new.padding_idx, layer.weight.shape[1] :] = 0  # type: ignore[index]
    elif isinstance(new, nn.LayerNorm):
        new.weight, new.bias = (_parameter(p, {0: out}, {}, fill, norm) for p, norm in ((new.weight, 1), (new.bias, 0)))
        new.normalized_shape = (len(new.weight),)
    elif isinstance(new, (nn.Linear, nn.Conv1d, nn.Conv2d)):
        new.weight = _parameter(new.weight, {0: out}, {1: into}, fill)
        if new.bias is not None:
            new.bias = _parameter(new.bias, {0: out}, {}, fill, 0.0)
        if isinstance(new, nn.Linear):
            new.out_features, new.in_features = new.weight.shape
        else:
            new.out_channels, new.in_channels = new.weight.shape[:2]
    else:
        raise TypeError(f"a {type(layer).__name__} can't be grown: only linear maps, convolutions, tables and norms")
    return new


def _parameter(
    old: Tensor,
    out: dict[int, Units | None],
    into: dict[int, Units | None],
    fill: Fill,
    rest: float | None = None,
) -> nn.Parameter:
    """A parameter grown along its axes; `rest` is what fresh units get, None: random numbers."""
    tensor = old.detach()
    if fill == "copies":
        for axis, units in out.items():
            tensor = tensor if units is None else units.copied(tensor, axis)
        for axis, units in into.items():
            tensor = tensor if units is None else units.divided(tensor, axis)
        return nn.Parameter(tensor.clone(), requires_grad=old.requires_grad)
    sizes = list(tensor.shape)
    for axis, units in {**out, **into}.items():
        sizes[axis] = sizes[axis] if units is None else len(units)
    return nn.Parameter(_beside(tensor, sizes, rest), requires_grad=old.requires_grad)


def _beside(tensor: Tensor, sizes: list[int], rest: float | None) -> Tensor:
    fresh = torch.empty(sizes)
    if rest is not None:
        fresh.fill_(rest)
    else:
        layer = nn.Embedding(1, 1)  # whatever `init_weights` says of weights
        layer.weight = nn.Parameter(fresh)
        init_weights(layer)
    fresh = fresh.to(tensor)
    fresh[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return fresh


def widened_pooling(pooling: nn.Module, stream: Units, *, fill: Fill = "copies") -> nn.Module:
    """A pooling over wider tokens with the same weights for them; raises TypeError naming one that can't be grown.

    >>> widened_pooling(Attention(2, seed=0), Units.make(2, 4)).query.shape
    torch.Size([4])
    """
    new = copy.deepcopy(pooling)
    for part in new.modules():
        if isinstance(part, Attention):
            # scores are divided by the root of the width, which grows
            factor = (len(stream) / stream.old) ** 0.5 if fill == "copies" else 1.0
            query = _parameter(part.query, {}, {0: stream}, fill)
            part.query = nn.Parameter(query.detach() * factor, requires_grad=query.requires_grad)
        elif next(part.parameters(recurse=False), None) is not None:
            raise TypeError(f"a {type(part).__name__} pooling has weights that can't be grown: give one without")
    return new
