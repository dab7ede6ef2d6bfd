"""coembed index: encode items or files with a tower and keep them for search."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import flags
from coembed.cli.inputs import Skipped, add_inputs, rows

if TYPE_CHECKING:
    from coembed.index import Index


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = "An id is the path within the folder, with #1, #2, … where a file holds several items."
    take = parser.add_argument
    take("space", metavar="SPACE", help="a saved space")
    add_inputs(parser)
    take("--tower", required=True, metavar="NAME", help="the tower that reads the items")
    take("--kind", default="exact", metavar="NAME", help="the registered index to build (default: exact)")
    take("--out", metavar="DIR", help="where the index goes (default: SPACE/index/TOWER)")
    flags.add_json(parser, "what was written")


def run(args: argparse.Namespace) -> int:
    """Read, encode, index, save."""
    from coembed.cli import output, target
    from coembed.plugins import load

    space = target.open_space(args.space, args.device)
    tower = space[args.tower]
    out = Path(args.out) if args.out is not None else default(args.space, args.tower)
    index: Index = load(args.kind, "index")
    skipped = Skipped(keep=args.on_error == "skip")
    for entries, encoded in rows(tower, args, skipped):
        if entries:
            index.add([entry.id for entry in entries], encoded, [entry.payload for entry in entries])
    if not len(index):
        raise ValueError(f"nothing to index: all {len(skipped.rows)} items were bad: {_first(skipped)}")
    index.meta = {"tower": args.tower, "state": state(Path(args.space), args.tower), "role": args.role}
    index.save(out)
    path = skipped.write(out)
    if path is not None:
        output.note(f"{len(skipped.rows)} items skipped: see {path}")
    if args.json:
        output.emit({"count": len(index), "skipped": len(skipped.rows), "tower": args.tower, "out": str(out)})
    else:
        output.note(f"{len(index)} items -> {out}. Next:")
        where = "" if args.out is None else f" --index {out}"
        other = next((name for name in space if name != args.tower), args.tower)
        output.note(f"  coembed search {args.space} --from {other} --to {args.tower}{where} QUERY")
    return 0


def default(space: str, tower: str) -> Path:
    """Where a space keeps the index of a tower."""
    return Path(space) / "index" / tower


def state(folder: Path, tower: str) -> str:
    """A digest of what decides a tower's vectors, by which an index is known to be older than its space.

    Read from the saved space, where the encoder's fingerprint stands already.
    """
    import hashlib
    import json

    facts: dict[str, Any] = json.loads((folder / "space.json").read_text(encoding="utf-8"))["towers"][tower]
    digest = hashlib.blake2b(f"{facts['fingerprint']} {facts['aligner']}".encode(), digest_size=16)
    for name in ("aligner.safetensors", "lora.safetensors"):
        path = folder / "towers" / tower / name
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()


def _first(skipped: Skipped) -> str:
    row = skipped.rows[0]
    return f"{row['id']}: got {row['got']}, expected {row['expected']}"
