"""Whole layers of a transformer by one kernel each, for sequences that lie end to end (see layer.c)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coembed.native import library
from coembed.native.inference import PARTS, active, kept, packed, plain, state_of

_SIZES = ("dim", "heads", "hidden", "parts", "post")
_WEIGHTS = ("qkv", "output", "up", "down")
_ROWS = ("attention_gain", "attention_shift", "ff_gain", "ff_shift")


class _Struct(ctypes.Structure):
    """`layer` of layer.h, and the tensors that it points into."""

    held: list[Tensor]

    _fields_ = (
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in (*_WEIGHTS, *(f"{name}_bias" for name in _WEIGHTS), *_ROWS)),
        ("attention_eps", ctypes.c_double),
        ("ff_eps", ctypes.c_double),
    )


@dataclass(frozen=True)
class Layer:
    """The modules of a layer whose attention sees all of a sequence and whose activation is GELU, with its erf.

    `post`: norms come after the residuals, as in BERT; else before what they add to.
    """

    heads: int
    query: nn.Module
    key: nn.Module
    value: nn.Module
    output: nn.Module
    attention_norm: nn.Module
    up: nn.Module
    down: nn.Module
    ff_norm: nn.Module
    post: bool

    @property
    def linears(self) -> tuple[nn.Module, ...]:
        """The six products of a layer."""
        return self.query, self.key, self.value, self.output, self.up, self.down

    @property
    def norms(self) -> tuple[nn.Module, ...]:
        """Both norms."""
        return self.attention_norm, self.ff_norm

    def tensors(self) -> list[Tensor]:
        """Every weight."""
        return [tensor for module in (*self.linears, *self.norms) for tensor in (module.weight, module.bias)]  # type: ignore[misc]


def through(layers: Sequence[Layer | None], x: Tensor, runs: Sequence[tuple[int, int]]) -> Tensor | None:
    """Sequences end to end `[N, D]` through layers, or None where the kernel does not do what torch would.

    A layer that is None is one that the kernel can't compute. `runs` says (count, length) in order. Only inside
    `kernels()`; a sequence's bits do not depend on the others.
    """
    known = [layer for layer in layers if layer is not None and active() and _fits(layer, x)]
    native = library()
    if native is None or not known or len(known) < len(layers):
        return None
    lengths = torch.tensor([length for count, length in runs for _ in range(count)], dtype=torch.int64)
    rows = x.detach().to(torch.float32, copy=True).contiguous()
    for layer in known:
        if not native.ce_layer(ctypes.byref(_made(layer)), len(lengths), lengths.data_ptr(), rows.data_ptr()):
            raise MemoryError(f"a layer of width {x.shape[1]}: no memory for {int(lengths.max())} tokens")
    return rows.to(x.dtype)


def _fits(layer: Layer, x: Tensor) -> bool:
    """Whether a layer is made of plain parts of one type, in sizes that the kernel takes, with nothing hung on them."""
    if not all(type(module) is nn.Linear for module in layer.linears):
        return False
    if not all(type(module) is nn.LayerNorm for module in layer.norms):
        return False
    modules = (*layer.linears, *layer.norms)
    if any(module._forward_hooks or module._forward_pre_hooks for module in modules):
        return False
    if any(module.weight is None or module.bias is None for module in modules):
        return False
    dim, hidden, tensors = x.shape[1], len(layer.up.bias), layer.tensors()  # type: ignore[arg-type]
    wanted = [(dim, dim)] * 4 + [(hidden, dim), (dim, hidden)]
    return (
        x.dtype in PARTS
        and all(plain(tensor) and tensor.dtype == x.dtype for tensor in tensors)
        and not torch.is_grad_enabled()
        and [tuple(tensor.shape) for tensor in tensors[:12:2]] == wanted
        and all(tensor.shape == (dim,) for tensor in tensors[12:])
        and dim % 32 == 0
        and hidden % 32 == 0
        and dim % layer.heads == 0
    )


# by the layer's module `up`: the layer's state, and what the kernel reads
_kept: WeakKeyDictionary[nn.Module, tuple[object, _Struct]] = WeakKeyDictionary()


def _made(layer: Layer) -> _Struct:
    """A layer as the kernel reads it."""
    state = layer.heads, layer.post, tuple(map(state_of, layer.tensors()))
    return kept(_kept, layer.up, state, lambda: _make(layer))


def _make(layer: Layer) -> _Struct:
    tensors = [tensor.detach() for tensor in layer.tensors()]
    weights, biases = tensors[:12:2], tensors[1:12:2]
    matrices = [packed(each) for each in (torch.cat(weights[:3]), *weights[3:])]
    hidden, dim = weights[4].shape
    rows = [F.pad(bias.float(), (0, -len(bias) % 32)) for bias in (torch.cat(biases[:3]), *biases[3:])]
    norms = [tensor.float().contiguous() for tensor in tensors[12:]]
    held = [*matrices, *rows, *norms]
    struct = _Struct(
        dim,
        layer.heads,
        hidden,
        PARTS[weights[0].dtype],
        layer.post,
        *(tensor.data_ptr() for tensor in held),
        layer.attention_norm.eps,
        layer.ff_norm.eps,
    )
    struct.held = held
    return struct
