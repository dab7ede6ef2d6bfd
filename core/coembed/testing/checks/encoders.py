"""Checks on encoders, all on `tiny` weights and `samples`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from coembed.encoder import Encoder
from coembed.items import BadItem
from coembed.spec import EncoderSpec
from coembed.testing.cases import Inapplicable, Subject, check
from coembed.testing.guard import unchanged
from coembed.tower import Tower

CLOSE = 1e-5


class _Nonsense:
    """An item of no modality."""


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, atol=CLOSE * max(1.0, a.abs().max().item()), rtol=1e-4)


def _items(encoder: Encoder) -> list[Any]:
    items = list(encoder.samples())
    assert len(items) >= 2, f"samples() gives {len(items)} items; at least two different ones are needed"
    return items


@check("encoder")
def builds_offline(subject: Subject) -> None:
    """tiny() builds and encodes its samples without a network, and leaves process-wide settings alone."""
    assert subject.target  # imported first: what its libraries set on import is not the component's doing
    with unchanged(f"building and running {subject.spec.name if subject.spec else ''}"):
        encoder = subject.tiny()
        encoder.encode(_items(encoder))


@check("encoder")
def gives_its_shape(subject: Subject) -> None:
    """Output is [n, T, dim] of floats, finite, with at least one True in every row of the mask; no items, no rows."""
    encoder, spec = subject.tiny(), subject.spec
    assert isinstance(spec, EncoderSpec)
    items = _items(encoder)
    out = encoder.encode(items)
    assert len(out) == len(items), f"{len(items)} items gave {len(out)} rows"
    assert out.values.isfinite().all(), "values are not finite"
    assert out.present.all(), "a row's mask is all False"
    if spec.output == "vector":
        assert out.single, f"output 'vector' must have T = 1 after pooling, got {out.values.shape[1]}"
        assert out.dim == encoder.dim, f"encode gives {out.dim} dimensions, dim says {encoder.dim}"
    tokens = encoder(encoder.collate(items[:1]))
    assert tokens.dim == encoder.token_dim, f"forward gives width {tokens.dim}, token_dim says {encoder.token_dim}"
    empty = encoder.encode([])
    assert len(empty) == 0 and empty.dim == out.dim, (
        f"no items must give [0, T, {out.dim}], got {tuple(empty.values.shape)}"
    )
    assert not torch.equal(out.values[0], out.values[1]), "two different samples give the same values"


@check("encoder")
def ignores_its_batch(subject: Subject) -> None:
    """An item's embedding is the same alone, in any batch and at any place."""
    encoder = subject.tiny()
    items = _items(encoder)
    items = items + items[::-1]
    together, alone = encoder.encode(items), [encoder.encode([item]) for item in items]
    for place, one in enumerate(alone):
        rows = together.values[place][together.mask[place]]
        assert _close(rows, one.values[0][one.mask[0]]), f"sample {place} differs alone and in a batch: padding leaks"
    # encode sorts; collate itself must not depend on the neighbours either
    pooled = encoder.pooled(encoder(encoder.collate(items)))
    rows = pooled.values[0][pooled.mask[0]]
    assert _close(rows, alone[0].values[0][alone[0].mask[0]]), "sample 0 differs alone and collated with others"


@check("encoder")
def repeats_itself(subject: Subject) -> None:
    """In evaluation mode the same items give the same bits."""
    encoder = subject.tiny()
    items = _items(encoder)
    assert torch.equal(encoder.encode(items).values, encoder.encode(items).values), "two runs differ: dropout or state"


@check("encoder")
def saves_and_loads(subject: Subject) -> None:
    """What save writes, restore reads: the same vectors and fingerprint from another instance."""
    encoder, other = subject.tiny(), subject.tiny()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    encoder.save(subject.folder / "saved")
    other.restore(subject.folder / "saved")
    other.eval()
    items = _items(encoder)
    assert torch.equal(encoder.encode(items).values, other.encode(items).values), "restored weights give other vectors"
    assert encoder.fingerprint() == other.fingerprint(), "the fingerprint changed over save and restore"


@check("encoder")
def collates_in_workers(subject: Subject) -> None:
    """collate's result is a dict of CPU tensors that pickles and comes back from a worker process."""
    encoder = subject.tiny()
    items = _items(encoder)
    batch = encoder.collate(items)
    assert isinstance(batch, dict) and all(isinstance(v, Tensor) and not v.is_cuda for v in batch.values()), (
        f"collate must give a dict of CPU tensors, got { ({k: type(v).__name__ for k, v in dict(batch).items()}) }"
    )
    again = pickle.loads(pickle.dumps(batch))
    assert all(torch.equal(again[k], v) for k, v in batch.items()), "the batch changes when pickled"
    loader: Any = torch.utils.data.DataLoader(
        cast(Any, items),
        batch_size=len(items),
        collate_fn=encoder.collate,
        num_workers=1,
        multiprocessing_context="fork",
        timeout=60,
    )
    worked = next(iter(loader))
    assert all(torch.equal(worked[k], v) for k, v in batch.items()), "a worker's batch differs"


def _gradients(tower: Tower) -> dict[str, Tensor | None]:
    tower.train()
    items = _items(tower.encoder)
    out = tower(tower.encoder.collate(items))
    # Rows are unit vectors: a random direction keeps the gradient from vanishing by symmetry.
    generator = torch.Generator().manual_seed(0)
    (out.values * torch.randn(out.values.shape, generator=generator)).sum().backward()
    return {name: p.grad for name, p in tower.encoder.named_parameters()}


@check("encoder")
def trains_as_told(subject: Subject) -> None:
    """ "none" gives no gradient, "all" a finite one everywhere, "last:1" only to the last block."""
    encoder = subject.tiny()
    if not any(True for _ in encoder.parameters()):
        raise Inapplicable("no parameters")
    frozen = _gradients(Tower(encoder, "linear", dim=4))
    assert all(g is None for g in frozen.values()), "train='none' must give no gradient to the encoder"
    everything = _gradients(Tower(subject.tiny(), "linear", dim=4, train="all"))
    dead = [name for name, grad in everything.items() if grad is None]
    assert not dead, f"train='all' reaches no gradient at {', '.join(dead[:5])}: drop unused parameters"
    assert all(g.isfinite().all() for g in everything.values() if g is not None), "a gradient is not finite"
    if not encoder.blocks():
        return
    encoder = subject.tiny()
    inside = {name for name, p in encoder.named_parameters() if any(p is q for q in encoder.blocks()[-1].parameters())}
    moved = {n for n, g in _gradients(Tower(encoder, "linear", dim=4, train="last:1")).items() if g is not None}
    assert moved == inside, f"train='last:1' reaches {sorted(moved ^ inside)[:5]} beside or short of the last block"


@check("encoder")
def honours_roles(subject: Subject) -> None:
    """Each declared prompt changes the output, and an unknown role is refused."""
    encoder = subject.tiny()
    items = _items(encoder)
    plain = encoder.encode(items).values
    for role, prompt in encoder.prompts.items():
        out = encoder.encode(items, role=role).values
        assert not prompt or out.shape != plain.shape or not _close(out, plain), f"role {role!r} changes nothing"
    _refused(lambda: encoder.encode(items, role="no such role"), "an unknown role")


@check("encoder")
def honours_sizes(subject: Subject) -> None:
    """Declared Matryoshka sizes give unit vectors of that width; others are refused."""
    encoder = subject.tiny()
    items = _items(encoder)
    for size in encoder.sizes:
        if size > encoder.dim:
            continue  # a tiny instance may be narrower than what is declared
        cut = encoder.encode(items, dim=size)
        norms = cut.values[cut.mask].norm(dim=-1)
        assert cut.dim == size and torch.allclose(norms, torch.ones_like(norms), atol=1e-5), f"size {size} is not unit"
    odd = next(width for width in range(1, encoder.dim + 2) if width not in encoder.sizes and width != encoder.dim)
    _refused(lambda: encoder.encode(items, dim=odd), f"the undeclared size {odd}")


@check("encoder")
def exits_early(subject: Subject) -> None:
    """Every declared layer works, and really stops there: fewer blocks run."""
    encoder = subject.tiny()
    items = _items(encoder)
    _refused(lambda: encoder.encode(items, layer=(encoder.layers or 0) + 1), "a layer that is not declared")
    if not encoder.layers:
        raise Inapplicable("no early exits declared")
    blocks = encoder.blocks()
    assert len(blocks) >= encoder.layers, f"{encoder.layers} layers are declared, blocks() has {len(blocks)}"
    for layer in range(1, encoder.layers + 1):
        with _counted(blocks) as ran:
            out = encoder.encode(items[:1], layer=layer)
        assert out.values.isfinite().all(), f"layer {layer} gives values that are not finite"
        assert ran[0] == layer, f"layer={layer} ran {ran[0]} of {len(blocks)} blocks: it does not stop there"


@contextmanager
def _counted(blocks: Sequence[nn.Module]) -> Iterator[list[int]]:
    ran = [0]

    def count(*_: Any) -> None:
        ran[0] += 1

    handles = [block.register_forward_hook(count) for block in blocks]
    try:
        yield ran
    finally:
        for handle in handles:
            handle.remove()


@check("encoder")
def names_bad_items(subject: Subject) -> None:
    """A bad item raises BadItem with its position, and skipping it loses nothing else."""
    encoder = subject.tiny()
    items = _items(encoder)
    mixed = [*items, _Nonsense()]
    try:
        encoder.encode(mixed)
    except BadItem as error:
        assert error.position == len(items), f"the bad item is {len(items)}, the error names {error.position}"
        assert error.expected, "the error does not say what was expected"
    else:
        raise AssertionError("an object of no modality was encoded without an error")
    seen: list[BadItem] = []
    kept = encoder.encode(mixed, on_error=seen.append)
    assert len(seen) == 1 and kept.present.tolist() == [True] * len(items) + [False], "skipping lost or kept other rows"


def _refused(call: Any, what: str) -> None:
    try:
        call()
    except ValueError:
        return
    raise AssertionError(f"{what} was accepted: it must raise ValueError")
