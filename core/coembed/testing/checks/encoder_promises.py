"""Checks on what encoders declare: roles, Matryoshka sizes, early exits, and errors for items that are none."""

from __future__ import annotations

from functools import partial

import torch

from coembed.encoder import Encoder
from coembed.items import BadItem
from coembed.spec import EncoderSpec
from coembed.testing.checks.encoders import close, row, runs, samples, some
from coembed.testing.subject import Broken, Inapplicable, Subject, check, hold, refused


class _Nonsense:
    """An item of no modality."""


def _spec(subject: Subject) -> EncoderSpec:
    assert isinstance(subject.spec, EncoderSpec)
    return subject.spec


@check("encoder")
def honours_roles(subject: Subject) -> None:
    """Every declared role with a prompt changes the output; an unknown role is refused."""
    encoder: Encoder = subject.shared()
    items = some(encoder)
    refused(
        lambda: encoder.encode(items, role="no such role"),
        "an unknown role was accepted: let prompt_for raise ValueError for what self.prompts lacks",
    )
    lost = _spec(subject).prompts.keys() - encoder.prompts.keys()
    hold(not lost, f"the spec has roles that the encoder lacks: {', '.join(sorted(lost))}")
    if not encoder.prompts:
        raise Inapplicable("no roles declared")
    plain = encoder.encode(items).values
    for role, prompt in encoder.prompts.items():
        out = encoder.encode(items, role=role).values
        hold(
            not prompt or not close(out, plain),
            f"role {role!r} changes nothing: collate must put its prompt {prompt!r} before every item",
        )


@check("encoder")
def honours_sizes(subject: Subject) -> None:
    """Declared Matryoshka sizes give unit vectors of that width; others are refused."""
    encoder: Encoder = subject.shared()
    items = some(encoder)
    known = {*encoder.sizes, encoder.dim}
    odd = next(width for width in range(1, encoder.dim + 2) if width not in known)
    refused(
        lambda: encoder.encode(items, dim=odd),
        f"the undeclared size {odd} was accepted: raise ValueError for what self.sizes lacks",
    )
    lost = set(_spec(subject).matryoshka) - set(encoder.sizes)
    hold(not lost, f"the spec declares sizes that the encoder lacks: {sorted(lost)}; leave self.sizes as it is")
    if not encoder.sizes:
        raise Inapplicable("no Matryoshka sizes declared")
    for size in (size for size in encoder.sizes if size <= encoder.dim):  # a tiny instance may be narrower
        cut = encoder.encode(items, dim=size)
        norms = cut.values[cut.mask].norm(dim=-1)
        hold(cut.dim == size, f"dim={size} gives {cut.dim} dimensions")
        hold(
            torch.allclose(norms, torch.ones_like(norms), atol=1e-5),
            f"dim={size} gives vectors of length {float(norms.min()):.3f}: normalise after cutting",
        )


@check("encoder")
def exits_early(subject: Subject) -> None:
    """Every declared layer works and really stops there, counted in blocks that run; others are refused."""
    encoder: Encoder = subject.shared()
    items, layers = some(encoder), encoder.layers or 0
    for layer in (0, layers + 1):
        refused(
            partial(encoder.encode, items, layer=layer),
            f"layer {layer} was accepted, but {layers} are declared: let check_layer raise ValueError",
        )
    hold(
        layers or not _spec(subject).layers,
        f"the spec declares {_spec(subject).layers} layers, tiny() has none: give it a few, so that they are tried",
    )
    if not layers:
        raise Inapplicable("no early exits declared")
    blocks = encoder.blocks()
    hold(len(blocks) >= layers, f"{layers} layers are declared, blocks() has {len(blocks)}: let it give every layer")
    for layer in range(1, layers + 1):
        out, ran = runs(blocks, partial(encoder.encode, items[:1], layer=layer))
        hold(
            ran == [blocks.index(block) for block in blocks[:layer]],
            f"layer={layer} ran {len(ran)} of {len(blocks)} blocks: run the first {layer} and no more",
        )
        hold(
            out.present.all() and out.values.isfinite().all(),
            f"layer={layer} gives values that are not finite, or none",
        )
    batch = {name: tensor.to(encoder.device) for name, tensor in encoder.collate(items[:1]).items()}
    with torch.inference_mode():
        for layer, found in zip((layers, 1), encoder.eval().hidden(batch, [layers, 1]), strict=True):
            alone = encoder(batch, layer)
            hold(
                found.values.shape == alone.values.shape
                and torch.allclose(found.values[alone.mask], alone.values[alone.mask], atol=1e-5),
                f"hidden() gives other features after layer {layer} than forward(batch, layer={layer}): override both",
            )


@check("encoder")
def names_bad_items(subject: Subject) -> None:
    """A bad item raises BadItem with its position, and leaving it out loses nothing else."""
    encoder: Encoder = subject.shared()
    items = samples(encoder)
    for bad in (None, _Nonsense()):
        mixed = [items[0], bad, *items[1:]]
        try:
            encoder.encode(mixed)
        except BadItem as error:
            hold(
                error.position == 1,
                f"the bad item is item 1, the error names {error.position}: raise BadItem(i, describe(item), expected) "
                "with i counted in the list that collate was given",
            )
            hold(error.expected, "the error does not say what was expected: BadItem(i, got, 'a string')")
        else:
            raise Broken(f"{type(bad).__name__} was encoded without an error: let collate raise BadItem for it")
    seen: list[BadItem] = []
    kept, alone = encoder.encode(mixed, on_error=seen.append), encoder.encode(items)
    hold(
        [error.position for error in seen] == [1]
        and kept.present.tolist() == [place != 1 for place in range(len(mixed))]
        and all(close(row(kept, place + (place > 0)), row(alone, place)) for place in range(len(items))),
        "leaving a bad item out (on_error=callable) loses or changes other rows: let encode's own engine do it",
    )
