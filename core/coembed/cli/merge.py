"""coembed merge: spaces that were trained apart from one start become one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError, flags

if TYPE_CHECKING:
    from coembed.merging import Position
    from coembed.space import Space
    from coembed.tasks import Contrast

HOWS = ("linear", "slerp", "task-arithmetic", "ties", "self-position")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = (
        "linear is the mean of the weights. The others work on what each space learned since --base: slerp goes along "
        "arcs between them, in the order given; task-arithmetic adds them up; ties takes the mean of what agrees among "
        "the largest entries of each; self-position learns weights and scale on a small probe set, the --source. The "
        "new space's README says what it was made of."
    )
    take = parser.add_argument
    take("spaces", nargs="+", metavar="SPACE", help="saved spaces that were trained from one start, each on its own")
    take("--base", metavar="SPACE", help="the space that they began from; all but linear need it")
    take("--how", choices=HOWS, default="linear", help="how to merge (default: linear)")
    take("--weights", metavar="N,N,…", help="of the spaces, in their order (default: equal)")
    take("--scale", type=float, metavar="N", help="how far to go along what was learned (default: 1)")
    take("--density", type=float, metavar="SHARE", help="of a space's learned entries, how many ties keeps (0.2)")
    take(
        "--buffers",
        choices=["average", "base"],
        default="average",
        help="what becomes of running statistics and the like (default: average)",
    )
    flags.add_sources(parser)
    take("--mu", type=float, metavar="N", help="what self-position's loss adds for each unit of scale (0.05)")
    take("--steps", type=int, metavar="N", help="of self-position (200)")
    take("--batch-size", type=int, metavar="N", help="of self-position, for each task (64)")
    take("--lr", type=float, metavar="N", help="of self-position (0.05)")
    take(
        "--metric", metavar="NAME", help="let a figure of `eval`, such as MRR, choose between self-position and linear"
    )
    take("--seed", type=int, default=0, metavar="N", help="of self-position's batches (default: 0)")
    take("--out", metavar="DIR", required=True, help="where the merged space goes")
    flags.add_json(parser, "what was merged")


def run(args: argparse.Namespace) -> int:
    """Open, merge, save."""
    weights = _checked(args)
    from coembed.cli import output, target
    from coembed.merging import merge

    for folder in [*args.spaces, *([args.base] if args.base else [])]:
        if not Path(folder).is_dir():
            target.open_space(folder)  # says that there is no such folder
        if Path(folder).resolve() == Path(args.out).resolve():
            raise UsageError(f"--out {args.out} is one of the spaces to merge: choose another folder")
    found: dict[str, Any] = {"how": args.how, "base": args.base, "spaces": args.spaces}
    if args.how == "self-position":
        position = _position(args)
        space, found = position.space, found | _learned(position)
    else:
        scale = 1.0 if args.scale is None else args.scale
        space = merge(
            args.base,
            args.spaces,
            how=args.how,
            weights=weights,
            scale=scale,
            density=0.2 if args.density is None else args.density,
            buffers=args.buffers,
        )
        found |= {"weights": weights, "scale": scale}
    space.save(args.out)
    found |= {"towers": list(space), "dim": space.dim, "out": args.out}
    if args.json:
        output.emit(found)
        return 0
    if args.how == "self-position":
        learned = ", ".join(f"{weight:.3f}" for weight in found["weights"])
        losses = f"{found['before']:.4f} -> {found['after']:.4f}"
        output.note(f"weights {learned}; scale {found['scale']:.3f}; probe loss {losses}; kept: {found['chosen']}")
    output.note(f"{len(args.spaces)} spaces, {args.how} -> {args.out}")
    return 0


def _checked(args: argparse.Namespace) -> list[float] | None:
    """The weights; raises UsageError for flags that the way of merging does not take, or lacks."""
    learns = args.how == "self-position"
    if args.how != "linear" and args.base is None:
        raise UsageError(f"--how {args.how} needs --base, the space that the others were trained from")
    for name, takes in (
        ("weights", not learns),
        ("scale", args.how not in ("linear", "self-position")),
        ("density", args.how == "ties"),
        *((name, learns) for name in ("mu", "steps", "batch_size", "lr", "metric")),
    ):
        if getattr(args, name) is not None and not takes:
            raise UsageError(f"--{name.replace('_', '-')} is not for --how {args.how}")
    if learns != bool(args.source):
        raise UsageError("--how self-position needs a --source, its probe set, and the others take none")
    if args.weights is None:
        return None
    try:
        weights = [float(part) for part in args.weights.split(",")]
    except ValueError:
        raise UsageError(f"--weights {args.weights}: numbers with commas between are expected, such as 1,2") from None
    if len(weights) != len(args.spaces):
        raise UsageError(f"--weights {args.weights}: {len(weights)} weights for {len(args.spaces)} spaces")
    return weights


def _position(args: argparse.Namespace) -> Position:
    from coembed.cli import target
    from coembed.merging import retrieval, self_position

    base = target.open_space(args.base, "cpu")
    tasks = _tasks(args, base)
    given = {name: getattr(args, name) for name in ("mu", "steps", "batch_size", "lr")}
    return self_position(
        base,
        args.spaces,
        tasks,
        **{name: value for name, value in given.items() if value is not None},
        seed=args.seed,
        metric=retrieval(tasks, args.metric) if args.metric else None,
        buffers=args.buffers,
    )


def _tasks(args: argparse.Namespace, base: Space) -> list[Contrast]:
    """A contrast for each source, on every pair of the space's towers that its records share."""
    from coembed.cli import assemble
    from coembed.runfile import source_plans
    from coembed.settings import Part
    from coembed.tasks import Contrast
    from coembed.training.request import tasks_of

    plans = source_plans(Part({"sources": flags.sources(args)}, "command line"), Path())
    found = [task for source in assemble.open_sources(plans) for task in tasks_of(base, source, "infonce", None)]
    return [task for task in found if isinstance(task, Contrast)]


def _learned(position: Position) -> dict[str, Any]:
    return {
        "weights": list(position.weights),
        "scale": position.scale,
        "before": position.before,
        "after": position.after,
        "chosen": position.chosen,
        "metrics": dict(position.metrics),
    }
