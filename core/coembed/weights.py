"""Reading and writing safetensors, with errors that name the file."""

from __future__ import annotations

import shutil
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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, temporary)
    temporary.replace(path)


def save(tensors: Mapping[str, Tensor], path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
    """Write contiguous tensors to `path`, and leave nothing else behind.

    safetensors writes to a file of a random name beside its target first, and a kill would leave that one for good:
    here it does so in a folder of its own, whose name has the beginning and the ending of `path`'s, so that who clears
    up after a dead writer finds it (`remove`). Raises OSError if it can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    inside = path.with_name(f"{path.stem}-d{path.suffix}")
    remove(inside)  # what a dead writer left
    inside.mkdir()
    try:
        save_file(dict(tensors), inside / path.name, metadata=dict(metadata) if metadata else None)
        (inside / path.name).replace(path)
    except SafetensorError as error:
        if not inside.exists():  # another process has removed the folder meanwhile
            raise FileNotFoundError(f"{path}: its folder is gone") from error
        raise OSError(f"{path}: can't be written: {error}") from error
    finally:
        remove(inside)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
