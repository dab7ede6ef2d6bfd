"""coembed eval: retrieval figures of a space on a source."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError, flags

if TYPE_CHECKING:
    from coembed.space import Space


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    take = parser.add_argument
    take("space", metavar="SPACE", help="a saved space")
    flags.add_sources(parser)
    take(
        "--held-out",
        nargs="?",
        type=float,
        const=-1.0,
        metavar="SHARE",
        help="measure only the groups that a split of this share holds out (without SHARE: the split that `align` "
        "trained the space with)",
    )
    take("--seed", type=int, metavar="N", help="of that split (default: the one `align` used, or 0)")
    take("--eval", default="retrieval", metavar="NAME", help="the registered eval to run (default: retrieval)")
    take("--labels", action="store_true", help="records of one label match each other (retrieval)")
    take("--intervals", type=int, default=0, metavar="N", help="95 %% intervals from N resamplings (retrieval)")
    take(
        "--layer",
        type=depth,
        action="append",
        default=[],
        metavar="[TOWER=]K",
        help="stop encoders after block K, every one or that of a tower; may be repeated (retrieval)",
    )
    flags.add_options(parser, "the eval")
    flags.add_device(parser)
    flags.add_json(parser, "the figures")


def run(args: argparse.Namespace) -> int:
    """Open, measure, show."""
    from coembed.cli import assemble, output, target
    from coembed.runfile import Component, source_plans
    from coembed.settings import Part

    if not args.source:
        raise UsageError("--source is needed")
    space = target.open_space(args.space, args.device)
    plans = source_plans(Part({"sources": flags.sources(args)}, "command line"), Path())
    names = [plan.name for plan in plans]
    opened = assemble.open_sources(plans)
    share, seed = chosen(space, args)
    held = assemble.split(opened, names, share, seed)[1] if share else assemble.combine(opened, names)
    if not share and _trained(space):
        output.note("warning: if the space was trained on this source, these figures flatter it; see --held-out")
    measure = assemble.make("eval", Component(args.eval, settings(args), f"--eval {args.eval}"))
    found: Mapping[str, Any] = measure(space, held)
    size = len(held) if held is not None else 0
    if args.json:
        split = {"held_out": share, "seed": seed} if share else None
        output.emit({"space": args.space, "sources": names, "records": size, "split": split, "figures": dict(found)})
    else:
        output.figures(found, f"{size} {'held-out ' if share else ''}records of {', '.join(names)}")
    return 0


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of the eval."""
    given = flags.options(args.set)
    if args.eval == "retrieval":
        at = {} if not args.layer else {"layer": layers(args.layer)}
        return {"labels": args.labels, "intervals": args.intervals, "progress": True, **at, **given}
    if args.labels or args.intervals or args.layer:
        own = "--labels, --intervals and --layer"
        raise UsageError(f"{own} are for the eval retrieval; give {args.eval} its own by --set")
    return given


def depth(text: str) -> tuple[str | None, int]:
    """`K` or `TOWER=K` as a pair, for argparse."""
    tower, sign, block = text.rpartition("=")
    try:
        return (tower if sign else None), int(block)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither K nor TOWER=K") from None


def layers(given: Sequence[tuple[str | None, int]]) -> int | dict[str, int]:
    """The block of every encoder, or of the towers named; raises UsageError for both at once."""
    named = {tower: block for tower, block in given if tower is not None}
    if len(named) == len(given):
        return named
    if len(given) > 1:
        raise UsageError("--layer: give one K for all towers, or TOWER=K for each that is to stop early")
    return given[0][1]


def chosen(space: Space, args: argparse.Namespace) -> tuple[float, int]:
    """The held-out share (0: everything) and the seed of the split."""
    split = space.card.get("split", {})
    seed = args.seed if args.seed is not None else int(split.get("seed", 0))
    if args.held_out is None:
        return 0.0, seed
    if args.held_out >= 0:
        return float(args.held_out), seed
    if not split.get("held_out"):
        raise UsageError(f"--held-out needs a share: {args.space} names no split that it was trained with")
    return float(split["held_out"]), seed


def _trained(space: Space) -> bool:
    return bool(space.card.get("runs"))
