"""An encoder on the one transformer becomes wider and deeper."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from coembed.encoder import Encoder
from coembed.growth.blocks import Maps, Method, grown_body
from coembed.growth.units import Units
from coembed.growth.widen import Fill, widened, widened_pooling
from coembed.nn.body import BodyEncoder
from coembed.nn.seeding import seeded

EXACT = 1e-4  # relative error in float32 up to which outputs count as equal: rounding of sums in another order


def grown_encoder(
    encoder: Encoder,
    width: int | None,
    depth: int | None,
    method: Method,
    *,
    hidden: int | None = None,
    balanced: bool = True,
    seed: int = 0,
) -> tuple[BodyEncoder, Units]:
    """The grown copy of an encoder, and the map of its token features; see `coembed.growth.grow`."""
    if not isinstance(encoder, BodyEncoder):
        raise TypeError(
            f"{encoder.spec.name} is not built on coembed.nn.Transformer, the blocks that growing knows: try "
            "text/transformer"
        )
    if method not in get_args(Method):
        raise ValueError(f"method={method!r}: use one of {', '.join(get_args(Method))}")
    config = encoder.body.config
    if method == "stack" and width not in (None, config.dim):
        raise ValueError(f"method='stack' adds blocks only, but width is {width}: use 'fpi', 'aki' or 'direct' as well")
    width, depth = width or config.dim, depth or config.layers
    if hidden is None:
        hidden = round(config.hidden * width / config.dim)
    maps = Maps.make(encoder.body, width, hidden, balanced=balanced, seed=seed)
    fill: Fill = "fresh" if method == "direct" else "copies"
    new = copy.deepcopy(encoder)  # its tokeniser and all else that width does not touch
    with seeded(seed):
        for owner, name, layer in _front(new):
            setattr(owner, name, widened(layer, maps.stream, fill=fill))
        new.pooling = widened_pooling(encoder.pooling, maps.stream, fill=fill)
        new.body = grown_body(encoder.body, maps, depth, method)
    new.dim = width
    if encoder.layers is not None:
        new.layers = depth
    new.source = None  # its weights are made here: a saved space must hold them
    given = {"dim": width, "layers": depth, "heads": new.body.config.heads, "ff": hidden}
    known = inspect.signature(type(encoder)).parameters
    if lacking := [name for name in given if name not in known]:
        raise TypeError(
            f"{type(encoder).__name__} takes no {', '.join(lacking)}, so that what is grown could not be built again: "
            "add the argument to its __init__"
        )
    new.spec = replace(encoder.spec, kwargs={**encoder.spec.kwargs, **given})
    return new, maps.stream


def _front(encoder: BodyEncoder) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """The layers outside the transformer and the pooling that write the residual stream: (owner, name, layer).

    A front layer reads an item's features, whatever their number, so that it is its output that is the stream's.
    """
    width = encoder.body.config.dim
    apart = {id(part) for top in (encoder.body, encoder.pooling) for part in top.modules()}
    for owner in [part for part in encoder.modules() if id(part) not in apart]:
        for name, part in list(owner.named_children()):
            if id(part) in apart:
                continue
            if any(p.shape[-1 if isinstance(part, nn.Embedding) else 0] == width for p in part.parameters(False)):
                yield owner, name, part
        for name, parameter in owner.named_parameters(recurse=False):
            if width in parameter.shape and not isinstance(owner, (nn.Linear, nn.Embedding, nn.LayerNorm, nn.Conv1d)):
                if not isinstance(owner, nn.Conv2d):
                    raise TypeError(f"{type(owner).__name__}.{name} can't be grown: it is no layer that growing knows")


def difference(old: Encoder, new: Encoder, stream: Units) -> float:
    """How far the grown encoder's vectors of its sample items are from the old one's copies, relative to their length.

    0 means that it computes what it did.
    """
    items = list(type(old).samples())
    return relative(stream.copied(_vectors(old, items), -1), _vectors(new, items))


def relative(wanted: Tensor, found: Tensor) -> float:
    """The length of the difference over the length of what was wanted.

    >>> relative(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.0]))
    0.2
    """
    length = float(wanted.double().norm())
    return float((wanted.double() - found.double()).norm()) / max(length, torch.finfo(torch.float64).tiny)


def _vectors(encoder: Encoder, items: list[Any]) -> Tensor:
    found = encoder.encode(items)
    return found.values.masked_fill(~found.mask[..., None], 0.0)
