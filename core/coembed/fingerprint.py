"""The digest of a module's weights, computed once for each state that they are in."""

from __future__ import annotations

import hashlib
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

WORD, ROW = 8, 1024  # bytes summed as one number, numbers of a row

_known: WeakKeyDictionary[nn.Module, tuple[bytes, str]] = WeakKeyDictionary()


def weights_digest(module: nn.Module) -> str:
    """A digest of every tensor of a module's state: name, type, shape and bytes.

    Hashing gigabytes takes seconds, so that the digest is kept with a trace of the state it is of: address and version
    of every tensor, and sums over its bytes along two axes, since a write through `.data` or NumPy has no version.

    >>> module = nn.Linear(2, 2)
    >>> before = weights_digest(module)
    >>> module.weight.data[0, 0] += 1
    >>> weights_digest(module) == before
    False
    """
    state: dict[str, Tensor] = dict(sorted(module.state_dict().items()))
    trace = _trace(state)
    known = _known.get(module)
    if known is None or known[0] != trace:
        known = _known[module] = (trace, _digest(state))
    return known[1]


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        _feed(digest, tensor)
    return digest.hexdigest()


def _trace(state: dict[str, Tensor]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in state.items():
        version = -1 if tensor.is_inference() else tensor._version  # an inference tensor has none
        digest.update(repr((name, tensor.data_ptr(), version, tensor.dtype, tuple(tensor.shape))).encode())
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        if flat.storage_offset() % WORD:
            flat = flat.clone()
        whole = flat.numel() // (WORD * ROW) * WORD * ROW
        table = flat[:whole].view(torch.int64).view(-1, ROW)  # [N, ROW]; sums wrap around, which loses nothing here
        _feed(digest, table.sum(0))  # a number that moves changes the sum of a column ...
        _feed(digest, table.sum(1))  # ... or of a row
        _feed(digest, flat[whole:])
    return digest.digest()


def _feed(digest: Any, tensor: Tensor) -> None:
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
