"""Reading and writing safetensors, with errors that name the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn


class WeightsError(ValueError):
    """A weights file that is missing, damaged, or of another shape than the module that wants it."""


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises WeightsError naming the file if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such weights file") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged or cut off ({error}); write it again or copy it anew") from error


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors so that a reader sees the old file or the new one, never half of it."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, str(temporary)
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_into(module: nn.Module, path: Path, what: str) -> None:
    """Load a safetensors file into a module, strictly.

    Raises WeightsError naming the file, the module and what does not fit.
    """
    try:
        module.load_state_dict(read(path), strict=True)
    except WeightsError as error:
        raise WeightsError(f"{what}: {error}") from error
    except RuntimeError as error:
        raise WeightsError(f"{what}: {path} does not fit: {error}") from error
