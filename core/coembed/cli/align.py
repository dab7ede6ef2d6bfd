"""coembed align: train a space on pairs, from a run file or from flags."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError, flags

if TYPE_CHECKING:
    from coembed.runfile import Run

SETTINGS = {  # of `coembed.fit`, as flags
    "epochs": (float, "how often to go through the records (default: 10)"),
    "steps": (int, "how many steps to train, in place of epochs"),
    "batch_size": (int, "the batch that the loss sees (default: 256)"),
    "lr": (float, "peak learning rate (default: 0.001)"),
    "layer_decay": (float, "what each block's rate is of the one above it (default: 1)"),
    "weight_decay": (float, "weight decay (default: 0.01)"),
    "warmup": (float, "share of the steps that warm up (default: 0.1)"),
    "ema": (float, "end with the average of the weights at this decay, such as 0.999 (default: the last weights)"),
    "precision": (str, "fp32, bf16 or auto (default: auto)"),
    "checkpointing": (bool, "compute blocks again in the backward pass: less memory, more time"),
    "compile": (bool, "put the blocks that train through torch.compile"),
    "seed": (int, "of initial weights, batches and the split (default: 0)"),
    "eval_every": (int, "measure the held-out records every so many steps"),
    "checkpoint_every": (int, "keep a checkpoint every so many steps (default: 200)"),
    "tracker": (str, "tensorboard or wandb: where curves go"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = (
        "A run that was stopped goes on where it was when the same command is given again. A run file says the same as "
        "the flags, and more: an objective's options, several tasks, learning rates by tower (see coembed.runfile). "
        "On several GPUs or machines: torchrun --nproc-per-node N -m coembed align …, or accelerate launch -m …"
    )
    take = parser.add_argument
    take("run", nargs="?", metavar="RUN.yaml", help="a run file, in place of --tower and --source")
    for name, meta, meaning in [
        ("tower", "NAME=ENCODER", "a tower and the registered encoder that it reads with; repeat for each"),
        ("train", "NAME=WORD", "what of a tower's encoder trains: none, last:k, lora:r or all"),
        ("aligner", "NAME=ALIGNER", "a tower's head (default: linear)"),
        ("set", "NAME.KEY=VALUE", "an argument of a tower's encoder"),
    ]:
        take(f"--{name}", type=flags.assignment, action="append", default=[], metavar=meta, help=meaning)
    flags.add_sources(parser)
    take("--objective", metavar="NAME", help="the loss (default: infonce)")
    take("--dim", type=int, metavar="N", help="width of the space (default: that of the narrowest encoder)")
    take("--held-out", type=float, metavar="SHARE", help="share of the groups to measure on (default: 0.1; 0: none)")
    take("--out", metavar="DIR", help="where the space, its history and its checkpoints go")
    for name, (kind, meaning) in SETTINGS.items():
        flag = f"--{name.replace('_', '-')}"
        if kind is bool:
            take(flag, action="store_true", default=None, help=meaning)
        else:
            take(flag, type=kind, metavar="X", help=meaning)
    take("--device", help="cpu, cuda, mps or auto (default: auto)")
    take("--push", metavar="REPO", help="upload the space to this (private, if new) repository of the model hub")
    take("--restart", action="store_true", help="begin anew where --out holds checkpoints of this or another run")
    flags.add_json(parser, "the figures")


def run(args: argparse.Namespace) -> int:
    """Train, measure, save."""
    from coembed.cli import output, training

    plan = from_flags(args) if args.run is None else from_file(args)
    result = training.train(plan, restart=args.restart, push=args.push)
    if result is None:  # one of several processes, and not the one that prints
        return 0
    if args.json:
        output.emit(result)
        return 0
    if result["figures"]:
        output.figures(result["figures"], f"{result['held_out']} held-out records")
    else:
        output.note("Nothing was held out, so nothing was measured.")
    next_steps(result["out"], list(plan.towers))
    return 0


def next_steps(out: str, towers: list[str]) -> None:
    """What to type now."""
    from coembed.cli import output

    one, two = (*towers, towers[0])[:2]
    output.note(f"Saved in {out}. Next:")
    output.note(f"  coembed index {out} --tower {one} FOLDER")
    output.note(f"  coembed search {out} --from {two} --to {one} QUERY")


def from_file(args: argparse.Namespace) -> Run:
    """The run of a file, with the settings that flags give put over its own."""
    from coembed.runfile import parse
    from coembed.settings import read_yaml

    apart = ("tower", "train", "aligner", "set", "source", "map", "files", "id", "group", "label")
    extra = [name for name in apart if getattr(args, name)]
    if extra:
        raise UsageError(f"--{extra[0]} and a run file do not go together: write it into {args.run}")
    path = Path(args.run)
    part = read_yaml(path)
    data: dict[str, Any] = {**part.data, **_given(args)}
    if own := part.get("fit", dict):
        data["fit"] = {**own, **data.get("fit", {})}
    if args.objective and "tasks" in data:
        raise UsageError(f"--objective: {args.run} has tasks, each with its own")
    if args.out is not None:  # typed here, so relative to here; absolute paths ignore the file's folder
        data["out"] = str(Path(args.out).absolute())
    plan = parse(type(part)(data, part.file, (), part.lines), path.parent)
    if plan.out is None:
        raise UsageError(f"--out is needed: {args.run} names no 'out'")
    return plan


def from_flags(args: argparse.Namespace) -> Run:
    """The run that flags describe, through the same checks as a file."""
    from coembed.runfile import parse
    from coembed.settings import Part, scalar

    if not args.tower or not args.source or args.out is None:
        raise UsageError("give a run file, or --tower, --source and --out")
    towers: dict[str, dict[str, Any]] = {name: {"encoder": encoder, "kwargs": {}} for name, encoder in args.tower}
    if len(towers) < len(args.tower):
        raise UsageError("--tower: two towers have one name")
    for flag in ("train", "aligner"):
        for name, value in getattr(args, flag):
            _tower(towers, name, flag)[flag] = value
    for place, value in args.set:
        name, dot, key = place.partition(".")
        if not dot:
            raise UsageError(f"--set {place}={value}: write --set TOWER.KEY=VALUE")
        _tower(towers, name, "set")["kwargs"][key] = scalar(value)
    data = {"towers": towers, "sources": flags.sources(args), "out": args.out, **_given(args)}
    return parse(Part(data, "command line"), Path())


def _tower(towers: Mapping[str, dict[str, Any]], name: str, flag: str) -> dict[str, Any]:
    if name not in towers:
        raise UsageError(f"--{flag} {name}: no such tower; there are {', '.join(towers)}")
    return towers[name]


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The keys of a run file for which a flag was given."""
    fit = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    top = {name: getattr(args, name) for name in ("objective", "dim", "held_out", "device")}
    return {**{name: value for name, value in top.items() if value is not None}, **({"fit": fit} if fit else {})}
