"""Which fused kernels this machine can run."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from types import ModuleType

import torch

from coembed.plugins import CoembedWarning


@functools.cache
def triton_tiles(device: torch.device) -> ModuleType | None:
    """The module of Triton kernels, tried once on the device; None where triton is missing or fails, with a warning.

    Triton compiles at the first call and needs a C compiler for that, which not every machine with a GPU has: torch's
    own operations do instead.
    """
    if importlib.util.find_spec("triton") is None:
        return None
    try:
        module = importlib.import_module("coembed.objectives.triton_tiles")
        module.sums(module.Scores(*(torch.eye(2, device=device),) * 2, 1.0, 0, 2, None, None, True))
        torch.cuda.synchronize(device)
    except Exception as error:
        warnings.warn(
            f"losses go without Triton kernels, which fail here: {type(error).__name__}: {error} "
            "(COEMBED_TRITON=0 silences this)",
            CoembedWarning,
            stacklevel=2,
        )
        return None
    return module
