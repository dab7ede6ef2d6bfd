"""Checks on what encoders give out, all on `tiny` weights and `samples`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from coembed.embedding import Embedding
from coembed.encoder import Encoder
from coembed.spec import EncoderSpec
from coembed.testing import settings
from coembed.testing.guard import offline
from coembed.testing.subject import Subject, check, hold

T = TypeVar("T")


def samples(encoder: Encoder) -> list[Any]:
    """The encoder's own samples."""
    items = list(encoder.samples())
    hold(len(items) >= 2, f"samples() gives {len(items)} items: give two or more that differ, of unlike lengths")
    return items


def some(encoder: Encoder) -> list[Any]:
    """Three samples, where more would only take longer."""
    return samples(encoder)[:3]


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal up to rounding."""
    scale = max(1.0, float(a.abs().max())) if a.numel() else 1.0
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-5 * scale, rtol=1e-4)


def row(x: Embedding, at: int) -> Tensor:
    """The real vectors of one row, `[T, D]`."""
    return x.values[at][x.mask[at]]


def runs(blocks: Sequence[nn.Module], action: Callable[[], T]) -> tuple[T, list[int]]:
    """What an action gives, and the numbers of the blocks that it runs, call by call.

    A mere container counts when a part of it first runs; a block that stands in the list several times has the number
    of its first place.
    """
    events: list[tuple[int, bool]] = []  # which block, and whether itself or a part of it

    def watch(block: nn.Module, part: nn.Module) -> Any:
        event = blocks.index(block), part is block
        return part.register_forward_pre_hook(lambda *_: events.append(event))

    handles = [watch(block, part) for block in dict.fromkeys(blocks) for part in block.modules()]
    try:
        given = action()
    finally:
        for handle in handles:
            handle.remove()
    called = {number for number, own in events if own}
    ran: list[int] = []
    for number, own in events:
        if own or (number not in called and number not in ran):
            ran.append(number)
    return given, ran


@check("encoder")
def builds_offline(subject: Subject) -> None:
    """tiny() builds and encodes its samples without a network."""
    with offline() as attempts:
        encoder: Encoder = subject.shared(fresh=True)
        encoder.encode(some(encoder))
    hold(
        not attempts,
        f"building {subject.spec.name} tried the network ({', '.join(attempts[:3])}), if in vain: tiny() must make "
        "small random weights on the spot",
    )


@check("encoder")
def leaves_settings_alone(subject: Subject) -> None:
    """Building and encoding leave dtype, seed, threads, environment and warning filters alone."""
    shared: Encoder = subject.shared()
    shared.encode(some(shared))  # libraries that are imported on first use set what they like

    def use() -> None:
        encoder: Encoder = subject.tiny()
        encoder.encode(some(encoder))

    changed = settings.changed_by(use)
    hold(not changed, f"building or running {subject.spec.name} changes {'; '.join(changed)}")


@check("encoder")
def gives_its_shape(subject: Subject) -> None:
    """Output is [n, T, dim], of the weights' dtype, finite, with a True in every row of the mask; items differ."""
    encoder: Encoder = subject.shared()
    items = samples(encoder)
    out = encoder.encode(items)
    hold(len(out) == len(items), f"{len(items)} items gave {len(out)} rows: give one row an item")
    absent = (~out.present).nonzero().flatten().tolist()
    hold(not absent, f"the mask of sample {absent[:1]} is all False: every item needs one real vector")
    hold(out.values.isfinite().all(), "values are not finite: look for a division by zero or an overflow")
    dtype = next((p.dtype for p in encoder.parameters() if p.is_floating_point()), torch.float32)
    hold(
        out.values.dtype == dtype,
        f"values are {out.values.dtype}, the weights {dtype}: follow the weights, so that a space can change both",
    )
    width = encoder.dim if encoder.spec.output == "vector" else encoder.token_dim
    hold(out.dim == width, f"encode gives {out.dim} dimensions, dim says {width}: set self.dim to what pooling gives")
    tokens = encoder(encoder.collate(items[:1]))
    hold(
        tokens.dim == encoder.token_dim,
        f"forward gives width {tokens.dim}, token_dim says {encoder.token_dim}: set self.token_dim",
    )
    hold(
        not torch.equal(row(out, 0), row(out, 1)),
        "two different samples give the same values: look at the items",
    )


@check("encoder")
def gives_what_it_says(subject: Subject) -> None:
    """An encoder of output "vector" gives one vector an item, after pooling."""
    encoder: Encoder = subject.shared()
    spec = subject.spec
    assert isinstance(spec, EncoderSpec)
    out = encoder.encode(some(encoder))
    hold(
        encoder.spec.output == spec.output,
        f"the spec says output {spec.output!r}, the encoder {encoder.spec.output!r}: hand the spec on as it came",
    )
    hold(
        spec.output != "vector" or out.single,
        f"output 'vector', but pooling leaves T = {out.values.shape[1]} vectors an item: let self.pooling give one, "
        "or say output='multivector'",
    )


@check("encoder")
def takes_no_items(subject: Subject) -> None:
    """No items give no rows, of the same width."""
    encoder: Encoder = subject.shared()
    width = encoder.encode(samples(encoder)[:1]).dim
    empty = encoder.encode([])
    hold(
        len(empty) == 0 and empty.dim == width,
        f"no items give {list(empty.values.shape)}: [0, T, {width}] is expected",
    )


@check("encoder")
def ignores_its_batch(subject: Subject) -> None:
    """An item's embedding is the same alone, in any batch and at any place."""
    encoder: Encoder = subject.shared()
    items = samples(encoder)
    alone = [encoder.encode([item]) for item in items]
    turned = encoder.encode(items[::-1])
    # encode sorts; what forward gives may not depend on the neighbours in any other order either
    with torch.no_grad():
        pooled = encoder.pooled(encoder(encoder.collate(items)))
    for place, one in enumerate(alone):
        for where, x, at in (
            ("among others", turned, len(items) - 1 - place),
            ("collated with others", pooled, place),
        ):
            hold(
                close(row(x, at), row(one, 0)),
                f"sample {place} differs alone and {where}: keep padding out of attention, norms and pooling, and "
                "rows in the order of the items",
            )


@check("encoder")
def repeats_itself(subject: Subject) -> None:
    """In evaluation mode the same items give the same bits, whatever was encoded in between."""
    encoder: Encoder = subject.shared()
    items = some(encoder)
    first = encoder.encode(items).values
    encoder.encode(items[:1])
    hold(
        torch.equal(first, encoder.encode(items).values),
        "two runs give other values: leave dropout to self.training, and keep no state from one call to the next",
    )
