"""Kernels in C for the two things that take all the time: products of float matrices, and of bytes.

They are compiled when coembed is installed (see core/build_native.py) and used where the machine has the instructions.
Without a compiler, on another machine, or with COEMBED_NATIVE=0, torch's own operations do the same work.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

FILE = "kernels.so"
BYTES, TILES = 1, 2  # what `features` may say: products of bytes in AVX-512; matrix tiles (AMX)

_POINTER, _SIZE, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_float
_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "ce_features": (_INT, []),
    "ce_packed_size": (_SIZE, [_SIZE, _SIZE, _INT]),
    "ce_pack": (None, [_POINTER, _INT, _SIZE, _SIZE, _INT, _POINTER]),
    "ce_linear": (_INT, [_POINTER, _INT, _SIZE, _SIZE, _POINTER, _INT, _SIZE, _POINTER, _POINTER]),
    "ce_layer": (_INT, [_POINTER, _SIZE, _POINTER, _POINTER]),
    "ce_products": (None, [_POINTER, *[_SIZE] * 3, _POINTER, _SIZE, *[_POINTER] * 2]),
    "ce_scan": (None, [_POINTER, *[_SIZE] * 3, _POINTER, *[_SIZE] * 2, *[_POINTER] * 7, _SIZE, *[_POINTER] * 2]),
    "ce_dots": (None, [_POINTER, _SIZE, _POINTER, _SIZE, _SIZE, *[_POINTER] * 5, _FLOAT, *[_POINTER] * 5]),
}


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None; a call into them lets other threads of Python run."""
    file = Path(__file__).parent / FILE
    if os.environ.get("COEMBED_NATIVE", "1") == "0" or not file.is_file():
        return None
    try:
        found = ctypes.CDLL(str(file))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):  # built for another machine, or from other sources
        return None
    return found


@cache
def features() -> int:
    """What the kernels can do on this machine, as bits: `BYTES`, `TILES`; 0 without kernels.

    >>> features() in (0, BYTES, BYTES | TILES)
    True
    """
    found = library()
    return 0 if found is None else int(found.ce_features())
