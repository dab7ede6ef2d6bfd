"""What a command works on: a tower of a saved space, or an encoder by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError

if TYPE_CHECKING:
    from coembed.encoder import Encoder
    from coembed.space import Space
    from coembed.tower import Tower


def open_space(given: str, device: str = "auto") -> Space:
    """A saved space; raises ValueError saying what the folder lacks, or that there is no such folder."""
    from coembed.space import Space

    if not Path(given).is_dir():
        raise FileNotFoundError(f"{given}: no such folder; a space is made by `coembed align` or `coembed demo`")
    return Space.load(given, device=device)


def open_part(given: str, tower: str | None, device: str, options: dict[str, Any]) -> Encoder | Tower:
    """A tower of a saved space, or a registered encoder with the given arguments.

    Raises UsageError for a space without a tower's name or an encoder with one, PluginError for an unknown encoder,
    RunError for an argument that it does not take.
    """
    from coembed.cli.assemble import make
    from coembed.device import choose_device
    from coembed.runfile import Component
    from coembed.spec import NAME

    if Path(given).is_dir():
        if options:
            raise UsageError("--set is for an encoder; a saved space keeps the arguments of its towers")
        space = open_space(given, device)
        if tower is None:
            raise UsageError(f"--tower is needed: {given} has {', '.join(space)}")
        return space[tower]
    if not NAME.fullmatch(given):
        raise FileNotFoundError(f"{given}: no such folder, and no encoder has such a name")
    if tower is not None:
        raise FileNotFoundError(f"{given}: no such folder; --tower names a tower of a saved space")
    encoder: Encoder = make("encoder", Component(given, options, "--set" if options else given))
    return encoder.to(choose_device(device))
