"""Curves of a run in TensorBoard or Weights & Biases, through accelerate's trackers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.plugins import PluginError

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

TRACKERS = ("tensorboard", "wandb")
NAME = "coembed"  # of the project in Weights & Biases
Track = Callable[[Mapping[str, Any]], None]


@contextmanager
def tracked(
    tracker: str | GeneralTracker | None, folder: Path | None, run: Mapping[str, Any], start: int
) -> Iterator[Track]:
    """Within this block what it yields sends a row of the history to the tracker: loss, rate, held-out figures by step.

    `tracker` is "tensorboard" (files in FOLDER/tracking), "wandb" (offline unless an API key is there or WANDB_MODE
    says otherwise; `wandb sync` uploads later), an accelerate tracker, or None. A run that goes on at step `start`
    replaces what came after it. Raises ValueError for another word, PluginError for a package that is not installed.

    >>> with tracked(None, None, {}, 0) as track:
    ...     track({"step": 1, "loss": 0.5})
    """
    if tracker is None:
        yield lambda row: None
        return
    chosen = _open(tracker, folder, start) if isinstance(tracker, str) else tracker
    chosen.start()
    try:
        if not start:
            chosen.store_init_configuration({key: _plain(value) for key, value in run.items()})
        yield lambda row: chosen.log(curves(row), step=row["step"])
    finally:
        chosen.finish()


def check(tracker: object) -> None:
    """Raise ValueError or PluginError, before long work, for a tracker that can't be had."""
    if not isinstance(tracker, str):
        return
    if tracker not in TRACKERS:
        raise ValueError(f"tracker {tracker!r}: use {' or '.join(map(repr, TRACKERS))}, or an accelerate tracker")
    missing = [name for name in ("accelerate", tracker) if find_spec(name) is None]
    if missing:
        raise PluginError(f"tracker {tracker!r} needs {' and '.join(missing)}: pip install 'coembed[{tracker}]'")


def curves(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row of the history by the names of their curves.

    >>> curves({"step": 3, "figures": {"a->b": {"R@1": 0.5}}})
    {'a->b/R@1': 0.5}
    """
    figures = row.get("figures", {})
    found = {name: row[name] for name in ("loss", "lr", "seconds") if name in row}
    for name, inner in figures.items():
        pairs = inner.items() if isinstance(inner, Mapping) else [(None, inner)]
        found |= {f"{name}/{key}" if key else name: value for key, value in pairs if isinstance(value, (int, float))}
    return found


def _open(name: str, folder: Path | None, start: int) -> GeneralTracker:
    check(name)
    from accelerate import PartialState
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    PartialState()  # its trackers log through it
    place = (folder or Path()) / "tracking"
    place.mkdir(parents=True, exist_ok=True)
    if name == "tensorboard":
        return TensorBoardTracker("", place, purge_step=start + 1 if start else None)
    id_file = place / "wandb-id"
    if not start or not id_file.exists():
        id_file.write_text(hashlib.blake2b(os.urandom(16), digest_size=8).hexdigest())
    mode = os.environ.get("WANDB_MODE") or ("online" if _wandb_key() else "offline")
    return WandBTracker(NAME, dir=str(place), id=id_file.read_text(), resume="allow", mode=mode)


def _wandb_key() -> bool:
    """Whether Weights & Biases would find a key without asking for it."""
    import netrc

    try:
        known = netrc.netrc().authenticators("api.wandb.ai")
    except (OSError, netrc.NetrcParseError):
        known = None
    return bool(known or os.environ.get("WANDB_API_KEY"))


def _plain(value: Any) -> Any:
    """Trackers take numbers and texts only."""
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
