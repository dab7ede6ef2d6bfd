"""coembed embed: any number of items to vectors in a folder, which a run that was stopped goes on with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from coembed.cli import UsageError, flags
from coembed.cli.inputs import STDIN, Skipped, add_inputs

ENGINES = ("local", "ray")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = (
        "DIR gets shards: vectors-00000.safetensors (`values` [N, T, D], `mask` [N, T]; T is 1 unless the tower gives "
        "a vector a token) and ids-00000.jsonl (a line a row), or vectors-00000.parquet with ids and payloads in it. "
        "The same command goes on where it was stopped, and encodes anew only the shards whose inputs changed; the "
        "bytes are the same either way."
    )
    take = parser.add_argument
    take("space", metavar="SPACE|ENCODER", help="a saved space, or a registered encoder")
    add_inputs(parser)
    flags.add_sources(parser)
    take("--column", metavar="NAME", help="the column of a --source to read (default: the tower's name)")
    take("--tower", metavar="NAME", help="the tower of the space that reads the items")
    take("--layer", type=int, metavar="K", help="stop the encoder after block K, where it has early exits")
    take("--dim", type=int, metavar="N", help="cut vectors to a width that they were trained for")
    take("--precision", choices=["fp32", "bf16"], default="fp32", help="what the encoder computes in (default: fp32)")
    take("--out", metavar="DIR", help="where the vectors go; needed unless --json")
    take("--format", choices=["safetensors", "parquet"], default="safetensors", help="of the shards")
    take("--shard", type=int, default=8192, metavar="N", help="items in a shard (default: 8192)")
    take("--workers", type=int, default=1, metavar="N", help="processes that share the shards (default: 1)")
    take("--store", metavar="DIR", help="keep what is encoded by content, and encode only what the store lacks")
    take("--engine", choices=ENGINES, default="local", help="what runs the workers: this machine, or Ray Data")
    flags.add_options(parser, "the encoder")
    flags.add_json(parser, "what was written or, without --out, the vectors themselves,")


def run(args: argparse.Namespace) -> int:
    """Encode and write."""
    from coembed.bulk import finish
    from coembed.cli import output

    if args.workers < 1:
        raise UsageError(f"--workers {args.workers}: at least 1")
    if args.workers > 1 and (STDIN in args.inputs or args.out is None):
        raise UsageError("--workers needs inputs that each of them can read, and --out")
    if args.store and args.layer is not None:
        raise UsageError(f"--store keeps features of the full depth: leave out --store or --layer {args.layer}")
    if args.out is None:
        if not args.json:
            raise UsageError("--out is needed, or --json to print the vectors")
        if args.on_error == "skip":
            raise UsageError("--on-error skip needs --out, beside which the skipped items are written")
        output.emit(vectors(args))
        return 0
    if Path(args.out).suffix in (".safetensors", ".parquet"):
        raise UsageError(f"--out {args.out}: name a folder; it gets shards")
    shards, items = write(args)
    bad = finish(Path(args.out), shards)
    skipped = Skipped(keep=True, rows=[vars(row) for row in bad]).write(Path(args.out))
    if skipped is not None:
        output.note(f"{len(bad)} items skipped: see {skipped}")
    output.note(f"{items - len(bad)} items -> {args.out}")
    if args.json:
        output.emit({"count": items - len(bad), "skipped": len(bad), "shards": shards, "out": args.out})
    return 0


def write(args: argparse.Namespace) -> tuple[int, int]:
    """Run the job in this process, in several, or on Ray; returns how many shards and items it has."""
    from coembed.cli import bulk, workers
    from coembed.progress import bar

    if args.engine == "ray":
        return workers.ray(args)
    with bar("embed", None, unit="items") as advance:
        return bulk.work(args, done=advance) if args.workers == 1 else workers.local(args, advance)


def vectors(args: argparse.Namespace) -> dict[str, Any]:
    """All vectors at once, to be printed."""
    from coembed.bulk import Item
    from coembed.cli import bulk

    part = bulk.open_part(args)
    items = [row for row in bulk.items_of(part, args) if isinstance(row, Item)]  # a bad one has been raised
    kept, found, _ = bulk.encoder_of_items(part, args)(items)
    rows = [row.values[0][row.mask[0]].tolist() for row in (found[i : i + 1] for i in range(len(found)))]
    listed = [{"id": item.id, "vectors": row} for item, row in zip(kept, rows, strict=True)]
    return {"count": len(kept), "dim": found.dim, "skipped": 0, "rows": listed}
