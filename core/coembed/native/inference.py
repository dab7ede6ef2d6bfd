"""Linear layers by the kernels, for whatever runs inside: any model's, without its knowledge.

A float32 layer gives what float32 gives, to its last bit or two, from products of bfloat16 parts (see product.h). A row
of a layer's output has the same bits whatever rows are beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from coembed.native import TILES, features, library

K = TypeVar("K")
V = TypeVar("V")
PARTS = {torch.float32: 3, torch.bfloat16: 1}  # bfloat16 numbers that a number is the sum of


def kernels() -> AbstractContextManager[object]:
    """A context in which this thread's linear layers on the CPU are computed by the kernels, where there are any.

    >>> layer, x = torch.nn.Linear(8, 4), torch.randn(3, 8)
    >>> with torch.inference_mode(), kernels():
    ...     y = layer(x)
    >>> torch.allclose(y, layer(x), atol=1e-6)
    True
    """
    return _Linears() if features() & TILES else nullcontext()


def active() -> bool:
    """Whether this thread is inside `kernels()`, on a machine that has them."""
    return getattr(_here, "depth", 0) > 0


_SEEN = 32  # values of a weight that are looked at
_here = threading.local()  # `depth`, of contexts that this thread is in
_lock = threading.Lock()
_packed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # a weight's state, and it and its bias for the kernel


class _Linears(TorchFunctionMode):
    """Takes calls of `F.linear`, to which torch's layers and everybody else's come down."""

    def __enter__(self) -> _Linears:
        _here.depth = getattr(_here, "depth", 0) + 1
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        _here.depth -= 1
        super().__exit__(*error)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.linear and _fits(*args, **(kwargs or {})):
            return _linear(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _fits(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether the kernel gives what torch would: plain tensors on the CPU of one type, and nobody wants a gradient."""
    weights = [weight] if bias is None else [weight, bias]
    given = [input, *weights]
    return (
        weight.dtype in PARTS
        and all(map(plain, weights))
        and type(input) in (Tensor, torch.nn.Parameter)
        and input.device.type == "cpu"
        and len({x.dtype for x in given}) == 1
        and weight.dim() == 2
        and input.dim() > 0
        and input.shape[-1] == weight.shape[1] > 0
        and input.numel() > 0
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in given))
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def plain(weight: Tensor) -> bool:
    """Whether a weight is an ordinary tensor on the CPU, and one that would tell that it changed."""
    return type(weight) in (Tensor, torch.nn.Parameter) and weight.device.type == "cpu" and not weight.is_inference()


def state_of(weight: Tensor) -> tuple[object, ...]:
    """What changes with a weight's values: where it lies, torch's count of changes, and a few of the values.

    The count alone does not see what was done to `weight.data`, as some optimizers and averages do; those change
    nearly all values, so a few tell.
    """
    some = weight.detach().flatten()[:: max(1, weight.numel() // _SEEN)] if weight.is_contiguous() else weight[:0]
    return weight.data_ptr(), weight._version, weight.dtype, some.tolist()


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    native = library()
    assert native is not None
    (tiles, start), rows = _pack(weight, bias), input.contiguous()
    out = torch.empty(*input.shape[:-1], len(weight), dtype=input.dtype)
    width = weight.shape[1]
    done = native.ce_linear(
        rows.data_ptr(),
        int(input.dtype == torch.bfloat16),
        rows.numel() // width,
        width,
        tiles.data_ptr(),
        PARTS[weight.dtype],
        len(weight),
        start.data_ptr(),
        out.data_ptr(),
    )
    if not done:
        raise MemoryError(f"a linear layer of {width} to {len(weight)}: no memory for its rows")
    return out


def _pack(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """A layer's weights and bias as the kernel reads them."""

    def make() -> tuple[Tensor, Tensor]:
        start = torch.zeros(len(weight)) if bias is None else bias.detach().float()
        return packed(weight), F.pad(start, (0, -len(weight) % 32))

    state = state_of(weight), None if bias is None else state_of(bias)
    found: tuple[Tensor, Tensor] = kept(_packed, weight, state, make)
    return found


def kept(cache: MutableMapping[K, tuple[object, V]], key: K, state: object, make: Callable[[], V]) -> V:
    """What was made for a key; made when first asked for, by one thread, and anew when its state has changed."""
    found = cache.get(key)
    if found is None or found[0] != state:
        with _lock:
            found = cache.get(key)
            if found is None or found[0] != state:
                found = cache[key] = state, make()
    return found[1]


def packed(weight: Tensor) -> Tensor:
    """Weights `[m, k]` as the tiles read them, in bytes."""
    native, parts = library(), PARTS[weight.dtype]
    assert native is not None
    rows = weight.detach().contiguous()
    made = torch.empty(native.ce_packed_size(*rows.shape, parts), dtype=torch.uint8)
    native.ce_pack(rows.data_ptr(), int(rows.dtype == torch.bfloat16), *rows.shape, parts, made.data_ptr())
    return made
