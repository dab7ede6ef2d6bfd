"""Checkpoints: one safetensors file a step, written whole, the last two kept; safe from a kill and a power cut."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coembed.objectives import Objective
from coembed.plugins import CoembedWarning
from coembed.ramp import Ramp
from coembed.weights import WeightsError, remove
from coembed.weights import save as save_tensors

NAME = re.compile(r"step-(\d{8})\.safetensors")
KEEP = 2


class ResumeError(ValueError):
    """A checkpoint that belongs to another run; the message names what differs."""


def save(
    folder: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    run: Any,
    world: int = 1,
) -> None:
    """Write a checkpoint of the modules' state and the optimizer's; `run` is the configuration, plain JSON.

    Everything is in one file that appears at once and is on the disk by then, so that a kill at any moment leaves the
    one before. What a kill left half written is removed.
    """
    tensors = {f"module.{n}.{k}": t for n, module in modules.items() for k, t in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("step-*.part"):
        remove(left)
    path = folder / f"step-{step:08d}.safetensors"
    part = path.with_suffix(".part")
    # Tied weights share storage, which safetensors refuses: clones are written, and loading fills both.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_tensors(plain, part, {"run": json.dumps(run), "step": str(step), "world": str(world)})
    _to_disk(part)
    part.replace(path)
    _to_disk(folder)  # the new name itself
    for old in sorted(folder.glob("step-*.safetensors"))[:-KEEP]:
        old.unlink()


def _to_disk(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # a folder can't be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def options(modules: Mapping[str, nn.Module]) -> dict[str, Any]:
    """The numbers and words that torch's own layers and the objectives among the modules were built with, by name.

    They decide what a run does and are in no state: dropout rates, margins.

    >>> options({"head": nn.Sequential(nn.Dropout(0.2))})
    {'head.0.inplace': False, 'head.0.p': 0.2}
    """
    found: dict[str, Any] = {}
    for first, module in modules.items():
        for name, part in module.named_modules(prefix=first):
            if type(part).__module__.startswith("torch.nn.") or isinstance(part, Objective):
                plain = {key: value for key, value in vars(part).items() if isinstance(value, (bool, int, float, str))}
                plain |= {key: repr(value) for key, value in vars(part).items() if isinstance(value, Ramp)}
                found |= {
                    f"{name}.{k}": v for k, v in sorted(plain.items()) if not k.startswith("_") and k != "training"
                }
    return found


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a folder, or None."""
    found = sorted(path for path in folder.glob("step-*.safetensors") if NAME.fullmatch(path.name))
    return found[-1] if found else None


def step_of(path: Path) -> int:
    """The number of steps done that a checkpoint's name says.

    >>> step_of(Path("step-00000040.safetensors"))
    40
    """
    found = NAME.fullmatch(path.name)
    if found is None:
        raise ValueError(f"{path}: no checkpoint, whose name is like step-00000040.safetensors")
    return int(found[1])


def configuration(path: Path) -> dict[str, Any]:
    """The configuration that a checkpoint was made with; raises WeightsError if the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return dict(json.loads(file.metadata()["run"]))
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged checkpoint ({error}); delete it to go on from the one before") from error


def restore(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, run: Any, world: int = 1
) -> int:
    """Load a checkpoint into the modules and the optimizer; returns the number of steps done.

    Another number of processes (`world`) may go on with a run, with a warning: sums are taken in another order and
    dropout draws other masks, so that what comes out is as good but not the same to the bit. Raises ResumeError naming
    the settings that differ from `run`, WeightsError if the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged checkpoint ({error}); delete it to go on from the one before") from error
    before = json.loads(facts["run"])
    different = differences(before, json.loads(json.dumps(run)))
    if different:
        raise ResumeError(f"{path} is of another run: {'; '.join(different)}. Use the same settings, or another folder")
    if int(facts.get("world", world)) != world:
        warnings.warn(
            f"{path} was written by {facts['world']} processes, now there are {world}: the run goes on, but not with "
            "the same bits",
            CoembedWarning,
            stacklevel=2,
        )
    for name, module in modules.items():
        prefix = f"module.{name}."
        module.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(facts["step"])


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """The settings that differ between two plain JSON values, by name, with both values.

    >>> differences({"lr": 0.1, "seed": 0}, {"lr": 0.2, "seed": 0})
    ['lr was 0.1, is 0.2']
    """
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [d for k in keys for d in differences(before.get(k), now.get(k), f"{name}.{k}".lstrip("."))]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [d for i, (b, n) in pairs for d in differences(b, n, f"{name}[{i}]")]
    return [] if before == now else [f"{name} was {before!r}, is {now!r}"]
