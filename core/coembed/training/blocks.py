"""An encoder's blocks while it trains: how deep each parameter lies, and blocks recomputed or compiled for one run."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from coembed.encoder import Encoder
from coembed.plugins import CoembedWarning
from coembed.tower import Tower

Call = Callable[..., Any]


def parts(block: nn.Module) -> list[nn.Module]:
    """What of a block is called: itself, or its members where it is only a list of them.

    >>> [type(part).__name__ for part in parts(nn.ModuleList([nn.ReLU(), nn.ModuleList([nn.Tanh()])]))]
    ['ReLU', 'Tanh']
    """
    return [part for child in block for part in parts(child)] if isinstance(block, nn.ModuleList) else [block]


class _Reached(Exception):
    """The first block was called; carries what it was called with."""


def depths(encoder: Encoder, item: Any) -> dict[int, int]:
    """How deep each parameter lies, by its `id`: 0 below the first of n blocks, i in block i, n + 1 elsewhere.

    Below is what the first block's input depends on, as autograd sees it for one item: the order in which a model
    registers its parts says little (open_clip registers its final projection first). Empty if there are no blocks.

    >>> from coembed.testing import toy_encoder
    >>> encoder = toy_encoder(dim=8, blocks=2)
    >>> deep = depths(encoder, "abc")
    >>> deep[id(encoder.table.weight)], deep[id(encoder.body[1].weight)]
    (0, 2)
    """
    blocks = encoder.blocks()
    found = {id(p): i for i, block in enumerate(blocks, 1) for p in block.parameters()}
    rest = [p for p in encoder.parameters() if id(p) not in found]
    if not blocks:
        return {}
    below = _feeding(encoder, parts(blocks[0]), rest, item)
    return found | {id(p): 0 if id(p) in below else len(blocks) + 1 for p in rest}


def _feeding(encoder: Encoder, first: Sequence[nn.Module], rest: Sequence[nn.Parameter], item: Any) -> set[int]:
    """The parameters that the input of the first block depends on."""

    def reached(part: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        raise _Reached([t for t in (*args, *kwargs.values()) if isinstance(t, Tensor) and t.requires_grad])

    device, training = encoder.device, encoder.training
    batch = {name: tensor.to(device) for name, tensor in encoder.collate([item]).items()}
    before = [p.requires_grad for p in rest]
    hooks = [part.register_forward_pre_hook(reached, with_kwargs=True) for part in first]
    encoder.eval()  # no dropout, no layer skipped, no running statistics moved
    try:
        for parameter in rest:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            encoder(batch)
    except _Reached as stop:
        sums = [t.float().sum() for t in stop.args[0]]
        gradients = torch.autograd.grad(sums, rest, allow_unused=True) if sums else [None] * len(rest)
        return {id(p) for p, gradient in zip(rest, gradients, strict=True) if gradient is not None}
    finally:
        encoder.train(training)
        for hook in hooks:
            hook.remove()
        for parameter, wanted in zip(rest, before, strict=True):
            parameter.requires_grad_(wanted)
    return {id(p) for p in rest}  # the blocks are never called as modules: nothing tells below from above


@contextmanager
def tuned(towers: Mapping[str, Tower], *, checkpointing: bool = False, compile: bool | str = False) -> Iterator[None]:
    """Within this block the blocks that train are recomputed in the backward pass, or compiled; afterwards as before.

    `checkpointing` keeps only each block's input and computes the block again when its gradient is due, with the same
    random numbers and without moving its running statistics twice: the same gradient, less memory, about a third more
    time. `compile` is True (torch's own compiler) or the name of another backend of torch.compile; shapes are dynamic.
    Where no block trains there is a warning. Raises ValueError for a backend that is not there, or a
    machine without the C++ compiler that torch's own needs.
    Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, section 4.

    >>> from coembed.testing import toy_encoder
    >>> with tuned({"a": Tower(toy_encoder(dim=8), train="all")}, checkpointing=True):
    ...     pass
    """
    backend = _backend(compile, towers)
    asked = [name for name, wanted in (("checkpointing", checkpointing), ("compile", backend)) if wanted]
    chosen = [
        part
        for tower in towers.values()
        for block in (tower.encoder.blocks() if asked and not tower.locked else ())
        for part in parts(block)
        if any(p.requires_grad for p in part.parameters())
    ]
    if asked and not chosen:
        what = f"{' and '.join(asked)} will change nothing: no tower here has an encoder whose blocks train"
        warnings.warn(what, CoembedWarning, stacklevel=4)
    with ExitStack() as changed:
        for part in dict.fromkeys(chosen):
            own, forward = vars(part).get("forward"), part.forward
            if backend:
                forward = _compiled(forward, backend)
            if checkpointing:
                forward = _recomputed(forward, part)
            changed.callback(_restore, part, own)
            part.forward = forward
        yield


def _restore(part: nn.Module, own: Call | None) -> None:
    if own is None:
        del part.forward  # the class's own shows again
    else:
        part.forward = own


def _recomputed(forward: Call, part: nn.Module) -> Call:
    """The block's forward, whose inner values are computed again in the backward pass."""

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), _kept(part)

    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    return call


@contextmanager
def _kept(part: nn.Module) -> Iterator[None]:
    """The block's buffers are as they were after this: a second pass must not move running statistics again."""
    before = [(buffer, buffer.clone()) for buffer in part.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _compiled(forward: Call, backend: str) -> Call:
    """The block's forward through torch.compile; its failures say how to go on without."""
    compiled: Call = torch.compile(forward, backend=backend, dynamic=True)

    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.is_inference_mode_enabled():  # evaluation, which encodes in threads: compiling is for one at a time
            return forward(*args, **kwargs)
        try:
            return compiled(*args, **kwargs)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"compile={backend!r} failed: {reason}; train without compile") from error

    return call


def _backend(compile: bool | str, towers: Mapping[str, Tower]) -> str:
    """The backend's name, "" for none, checked before the long work."""
    if compile is False:
        return ""
    backend = "inductor" if compile is True else compile
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise ValueError(f"compile={backend!r}: torch.compile has no such backend; use True, or one of {_join(known)}")
    on_cpu = any(tower.encoder.device.type == "cpu" for tower in towers.values())
    compilers = [name for name in (os.environ.get("CXX"), "g++", "clang++") if name]
    if backend == "inductor" and on_cpu and not any(shutil.which(name) for name in compilers):
        raise ValueError(
            f"compile={compile!r} needs a C++ compiler on the CPU, and there is none of {_join(compilers)}: install "
            "g++, name yours in CXX, or train without compile"
        )
    return backend


def _join(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
