"""The precision of a loss's matrix products, and the tile that suits a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

Precision = Literal["auto", "fp32", "bf16"]
ROWS, COLUMNS = 512, 1024  # a tile of scores on a CPU, 2 MB in float32: it stays in a core's cache
GPU_ROWS, GPU_COLUMNS = 4096, 8192  # 128 MB: large enough that its products fill a GPU, small beside the embeddings
GPU_SHARE = 16  # a tile may take one part in so many of the GPU's free memory; three or four live at once


def check_precision(precision: str) -> Precision:
    """The word as it came; raises ValueError unless it is a precision."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision {precision!r}: use 'auto', 'fp32' or 'bf16'")
    return precision  # type: ignore[return-value]


def wants_bf16(precision: Precision, values: Tensor) -> bool:
    """Whether products of these values go through bf16 units: asked for, or "auto" under a bf16 autocast.

    >>> wants_bf16("auto", torch.ones(1)), wants_bf16("bf16", torch.ones(1))
    (False, True)
    """
    if precision == "auto":
        kind = values.device.type
        return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
    return precision == "bf16"


@contextmanager
def matrix_units(bf16: bool, device: torch.device) -> Iterator[None]:
    """Inside, float32 products are what they say, or with `bf16` round their inputs and sum in float32 on a CPU.

    A CPU without bf16 units goes on in float32. The switch is the process's, so that products of other threads take
    it too while a loss is computed; it is put back at the end.
    """
    matmul = getattr(torch.backends.mkldnn, "matmul", None)  # not before torch 2.9
    with torch.autocast(device.type, enabled=False):
        if not bf16 or device.type != "cpu" or matmul is None:
            yield
            return
        before = matmul.fp32_precision
        matmul.fp32_precision = "bf16"
        try:
            yield
        finally:
            matmul.fp32_precision = before


def tile_shape(device: torch.device) -> tuple[int, int]:
    """Rows and columns of a tile: what fits a CPU's cache, or a GPU's free memory.

    >>> tile_shape(torch.device("cpu")) == (ROWS, COLUMNS)
    True
    """
    if device.type != "cuda":
        return ROWS, COLUMNS
    rows, columns = GPU_ROWS, GPU_COLUMNS
    # Memory that the allocator holds but does not use is free to us, though the driver counts it as taken.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = (torch.cuda.mem_get_info(device)[0] + unused) // GPU_SHARE
    while rows > ROWS and rows * columns * 4 > free:
        rows, columns = rows // 2, columns // 2
    return rows, columns


class Products:
    """Products of float32 tiles; with `bf16` on a GPU the inputs are rounded here, on a CPU by `matrix_units`.

    >>> out = torch.empty(2, 2)
    >>> Products(False, out.device).into(out, torch.eye(2), torch.ones(2, 2))
    tensor([[1., 1.],
            [1., 1.]])
    """

    def __init__(self, bf16: bool, device: torch.device) -> None:
        self.rounds = bf16 and device.type == "cuda"

    def ready(self, x: Tensor) -> Tensor:
        """What the units read: the values, or their bf16 copy."""
        return x.to(torch.bfloat16) if self.rounds else x

    def into(self, out: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """`out = x @ y`; y is ready."""
        if not self.rounds:
            return torch.mm(x, y, out=out)
        return torch.mm(self.ready(x), y, out_dtype=torch.float32, out=out)

    def add(self, out: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """`out += x @ y`; y is ready."""
        if not self.rounds:
            return out.addmm_(x, y)
        return out.add_(torch.mm(self.ready(x), y, out_dtype=torch.float32))
