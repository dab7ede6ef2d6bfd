"""Process-wide settings: read, compared and put back, so that a change is blamed on the component alone."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Setting:
    """One setting: how to read and write it, a value that nobody sets, and what to do instead of changing it.

    The neutral value is what a component is run under: one that sets a seed to 0 where it is 0 already shows as well.
    """

    read: Callable[[], Any]
    write: Callable[[Any], object]
    neutral: Callable[[], Any]
    instead: str


def _write_environment(values: Mapping[str, str]) -> None:
    for name in os.environ.keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


def _write_filters(values: list[Any]) -> None:
    warnings.filters[:] = values  # type: ignore[index]


def _torch_bytes(state: torch.Tensor) -> bytes:
    return bytes(state.numpy().tobytes())


def _numpy_bytes(state: Any) -> bytes:
    return bytes(state[1].tobytes()) + int(state[2]).to_bytes(4, "big")


def _write_numpy(state: bytes) -> None:
    words, place = np.frombuffer(state[:-4], np.uint32), int.from_bytes(state[-4:], "big")
    np.random.set_state(("MT19937", words, place, 0, 0.0))


_ODD = 8_675_309  # a seed that nobody chooses
_NEEDED = ("PATH", "HOME", "USERPROFILE", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP")
_SEED = "draw inside `with coembed.nn.seeded(seed):`, or from a generator of your own"
_USER = "leave it to the user"

SETTINGS: dict[str, Setting] = {
    "torch's default dtype": Setting(
        torch.get_default_dtype, torch.set_default_dtype, lambda: torch.float32, "give dtype= to what you make"
    ),
    "torch's default device": Setting(
        torch.get_default_device, torch.set_default_device, lambda: torch.device("cpu"), _USER
    ),
    "torch's random state": Setting(
        lambda: _torch_bytes(torch.get_rng_state()),
        lambda state: torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8)),
        lambda: _torch_bytes(torch.Generator().manual_seed(_ODD).get_state()),
        _SEED,
    ),
    "Python's random state": Setting(
        random.getstate, random.setstate, lambda: random.Random(_ODD).getstate(), "use random.Random(seed)"
    ),
    "NumPy's random state": Setting(
        lambda: _numpy_bytes(np.random.get_state()),
        _write_numpy,
        lambda: _numpy_bytes(np.random.RandomState(_ODD).get_state()),
        "use numpy.random.default_rng(seed)",
    ),
    "torch's thread count": Setting(torch.get_num_threads, torch.set_num_threads, lambda: 3, _USER),
    "torch's grad mode": Setting(
        torch.is_grad_enabled, torch._C._set_grad_enabled, lambda: True, "use `with torch.no_grad():`"
    ),
    "torch's deterministic mode": Setting(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, lambda: False, _USER
    ),
    "torch's matmul precision": Setting(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, lambda: "highest", _USER
    ),
    "the environment": Setting(
        lambda: dict(os.environ),
        _write_environment,
        lambda: {name: os.environ[name] for name in _NEEDED if name in os.environ},
        "give arguments to what you call",
    ),
    "the warning filters": Setting(
        lambda: list(warnings.filters), _write_filters, list, "use `with warnings.catch_warnings():`"
    ),
}
# What a library sets as it is imported stays: it may read that again later.
LASTING = ("the environment", "the warning filters")


def read() -> dict[str, Any]:
    """Every setting as it is now."""
    return {name: setting.read() for name, setting in SETTINGS.items()}


def write(values: Mapping[str, Any]) -> None:
    """Put settings back; those that are as they should be are not touched."""
    for name, value in values.items():
        if SETTINGS[name].read() != value:
            SETTINGS[name].write(value)


@contextmanager
def preserved() -> Iterator[None]:
    """Put settings back after this block, so that a faulty component does not disturb what runs next."""
    before = {name: value for name, value in read().items() if name not in LASTING}
    try:
        yield
    finally:
        write(before)


def changed_by(action: Callable[[], object]) -> list[str]:
    """The settings that an action changes, each with what to do instead.

    Run it once before: libraries that are imported on first use set what they like, and that is not its doing.

    >>> changed_by(lambda: torch.set_default_dtype(torch.float64))
    ["torch's default dtype (to torch.float64): give dtype= to what you make"]
    """
    before = read()
    neutral = {name: setting.neutral() for name, setting in SETTINGS.items()}
    write(neutral)
    try:
        action()
        after = read()
    finally:
        write(before)
    return [
        f"{name}{_detail(neutral[name], after[name])}: {SETTINGS[name].instead}"
        for name in neutral
        if neutral[name] != after[name]
    ]


def _detail(before: Any, after: Any) -> str:
    if isinstance(before, dict):
        names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        return f" ({', '.join(names)})"
    if isinstance(before, (list, bytes, tuple)):  # filters and random states say nothing to a reader
        return ""
    return f" (to {after})"
