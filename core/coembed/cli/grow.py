"""coembed grow: a tower of a saved space becomes wider and deeper."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from coembed.cli import UsageError, flags

METHODS = ("fpi", "aki", "direct", "stack")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = (
        "fpi copies units and shares their weights out: with a width that is a whole multiple and no blocks added the "
        "space's vectors stay equal; aki fills up with units of the next block, direct with random ones, and stack "
        "only adds blocks. Where vectors change, a warning says by how much on sample items: train the space on "
        "(`coembed align`). For towers on coembed's own transformer, such as text/transformer."
    )
    take = parser.add_argument
    take("space", metavar="SPACE", help="a saved space")
    take("--tower", required=True, metavar="NAME", help="the tower whose encoder grows")
    take("--width", type=int, metavar="N", help="its new dimension, a multiple of a head's (default: as it is)")
    take("--depth", type=int, metavar="N", help="its new number of blocks (default: as it is)")
    take("--hidden", type=int, metavar="N", help="of the feed-forward half (default: in proportion to the width)")
    take("--method", choices=METHODS, default="fpi", help="what is added (default: fpi)")
    take("--unbalanced", action="store_true", help="draw the copies one by one, as the paper does: never exact")
    take("--seed", type=int, default=0, metavar="N", help="of what is drawn (default: 0)")
    take("--out", required=True, metavar="DIR", help="where the new space goes")
    flags.add_json(parser, "what the tower has become")


def run(args: argparse.Namespace) -> int:
    """Open, grow, save."""
    if args.width is None and args.depth is None and args.hidden is None:
        raise UsageError("nothing to do: give --width, --depth or --hidden")
    if Path(args.space).resolve() == Path(args.out).resolve():
        raise UsageError(f"--out {args.out} is the space itself: choose another folder")
    from coembed.cli import output, target
    from coembed.growth import grow_space

    old = target.open_space(args.space, "cpu")
    new = grow_space(
        old,
        args.tower,
        width=args.width,
        depth=args.depth,
        method=args.method,
        hidden=args.hidden,
        balanced=not args.unbalanced,
        seed=args.seed,
    )
    made = new.card["made"][-1]
    made["from"][0]["space"] = args.space
    new.save(args.out)
    sizes: dict[str, Any] = {key: made[key] for key in ("width", "depth", "hidden", "method", "error")}
    count = {name: sum(p.numel() for p in space[args.tower].parameters()) for name, space in (("b", old), ("a", new))}
    found = {"space": args.space, "tower": args.tower, **sizes, "parameters_before": count["b"]}
    found |= {"parameters": count["a"], "out": args.out}
    if args.json:
        output.emit(found)
        return 0
    output.note(
        f"{args.tower}: width {sizes['width']}, {sizes['depth']} blocks, {count['b']:,} -> {count['a']:,} parameters; "
        f"vectors off by {sizes['error']:.1e} of their length"
    )
    output.note(f"-> {args.out}")
    return 0
