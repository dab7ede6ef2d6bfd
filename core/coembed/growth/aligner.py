"""A head that reads a wider encoder and gives the vectors that it gave."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from coembed.aligner import MLP, Aligner, Identity, Linear
from coembed.growth.units import Units
from coembed.growth.widen import widened
from coembed.plugins import load


def grown_aligner(aligner: Aligner, stream: Units) -> Aligner:
    """The aligner on wider features: where those are copies of the old ones, its vectors stay equal.

    "linear" and "mlp" divide their first map among the copies; "identity" becomes the linear map that takes the mean of
    each feature's copies, since the space keeps its width. Raises TypeError for another aligner.

    >>> stream = Units.make(2, 4)
    >>> grown_aligner(Identity(2, 2), stream).map.weight.tolist()
    [[0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5]]
    """
    new: Aligner
    if len(stream) == stream.old:
        return copy.deepcopy(aligner)
    if type(aligner) is Identity:
        new = load("linear", "aligner", in_dim=len(stream), out_dim=aligner.out_dim, pool=aligner.pool)
        assert isinstance(new, Linear)
        with torch.no_grad():
            new.map.weight.copy_(stream.divided(torch.eye(stream.old), 1))
        return new
    new = copy.deepcopy(aligner)
    if type(aligner) is Linear and isinstance(new, Linear):
        new.map = widened(new.map, into=stream)
        if new.standardize:
            new.mean, new.scale = stream.copied(new.mean), stream.copied(new.scale)
        more = {}
    elif type(aligner) is MLP and isinstance(new, MLP):
        first = next(i for i, part in enumerate(new.map) if isinstance(part, nn.Linear))
        hidden = new.map[first].out_features
        new.map[first] = widened(new.map[first], into=stream)
        if first:  # the norm at the entry
            new.map[0] = widened(new.map[0], stream)
        more = {"hidden": hidden}  # by default it follows the width
    else:
        raise TypeError(
            f"aligner {type(aligner).__name__}: growing knows 'linear', 'mlp' and 'identity'; grow the encoder alone "
            "and train a new aligner on it"
        )
    new.in_dim = len(stream)
    if new.spec is not None:
        new.spec = replace(new.spec, kwargs={**new.spec.kwargs, "in_dim": new.in_dim, **more})
    return new
