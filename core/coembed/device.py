"""Where a space computes."""

from __future__ import annotations

from collections.abc import Callable

import torch


def choose_device(device: str | torch.device) -> torch.device:
    """A device by name; "auto" takes cuda, then mps, then cpu. Raises ValueError if there is none of that name.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    found: dict[str, Callable[[], bool]] = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device == "auto":
        return torch.device(next((name for name, there in found.items() if there()), "cpu"))
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device {device!r}: use 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'") from error
    if chosen.type in found and not found[chosen.type]():
        raise ValueError(f"device {str(device)!r} is not there on this machine; use 'cpu' or 'auto'")
    return chosen
