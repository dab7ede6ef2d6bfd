"""coembed embed: items or files to vectors."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError, flags
from coembed.cli.inputs import Entry, Skipped, add_inputs, rows

if TYPE_CHECKING:
    from coembed.embedding import Embedding


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = (
        "A folder gets vectors.safetensors (`values` [N, T, D], `mask` [N, T]) and ids.jsonl (a line a row); a name "
        "that ends in .safetensors gets one file, with the ids in its metadata. T is 1 unless the tower gives a vector "
        "a token."
    )
    take = parser.add_argument
    take("space", metavar="SPACE|ENCODER", help="a saved space, or a registered encoder")
    add_inputs(parser)
    take("--tower", metavar="NAME", help="the tower of the space that reads the items")
    take("--dim", type=int, metavar="N", help="cut vectors to a width that they were trained for")
    take("--out", metavar="DIR|FILE", help="where the vectors go; needed unless --json")
    flags.add_options(parser, "the encoder")
    flags.add_json(parser, "what was written or, without --out, the vectors themselves,")


def run(args: argparse.Namespace) -> int:
    """Encode and write."""
    from coembed.cli import output, target

    if args.out is None and not args.json:
        raise UsageError("--out is needed, or --json to print the vectors")
    if args.out is None and args.on_error == "skip":
        raise UsageError("--on-error skip needs --out, beside which the skipped items are written")
    out = Path(args.out) if args.out is not None else None
    if out is not None:
        check(out)
    part = target.open_part(args.space, args.tower, args.device, flags.options(args.set))
    skipped = Skipped(keep=args.on_error == "skip")
    entries, whole = gather(part, args, skipped)
    facts: dict[str, Any] = {
        "count": len(entries),
        "dim": whole.dim if whole is not None else None,
        "skipped": len(skipped.rows),
        "out": args.out,
    }
    if out is not None:
        write(out, entries, whole)
        path = skipped.write(out)
        if path is not None:
            output.note(f"{len(skipped.rows)} items skipped: see {path}")
        output.note(f"{len(entries)} items -> {out}")
    elif whole is not None:
        vectors = [row.values[0][row.mask[0]].tolist() for row in (whole[i : i + 1] for i in range(len(whole)))]
        facts["rows"] = [{"id": entry.id, "vectors": row} for entry, row in zip(entries, vectors, strict=True)]
    if args.json:
        output.emit(facts)
    return 0


def gather(part: Any, args: argparse.Namespace, skipped: Skipped) -> tuple[list[Entry], Embedding | None]:
    """All rows; None if every item was skipped."""
    from coembed.embedding import Embedding

    entries: list[Entry] = []
    parts: list[Embedding] = []
    for some, encoded in rows(part, args, skipped):
        if some:
            entries += some
            parts.append(encoded)
    return entries, Embedding.cat(parts) if parts else None


def check(out: Path) -> None:
    """Refuse, before the long work, a folder that holds anything but what this command writes."""
    if out.suffix == ".safetensors":
        if out.is_dir():
            raise ValueError(f"{out} is a folder: name a file")
        return
    if out.is_file():
        raise ValueError(f"{out} is a file: name a folder, or a file that ends in .safetensors")
    strange = {path.name for path in out.iterdir()} - {"vectors.safetensors", "ids.jsonl"} if out.is_dir() else set()
    if strange:
        raise ValueError(f"{out} holds {min(strange)}: choose an empty folder, or one that `coembed embed` wrote")


def write(out: Path, entries: list[Entry], whole: Embedding | None) -> None:
    """Vectors and ids, so that a reader never sees new vectors under old ids."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    values = whole.values.contiguous() if whole is not None else torch.zeros(0, 1, 0)
    mask = whole.mask.contiguous() if whole is not None else torch.zeros(0, 1, dtype=torch.bool)
    single = out.suffix == ".safetensors"
    path = out if single else out / "vectors.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"ids": json.dumps([entry.id for entry in entries], ensure_ascii=False)} if single else None
    ids, part = out / "ids.jsonl", path.with_name(f".{path.name}.part")
    try:
        save_file({"values": values, "mask": mask}, str(part), metadata=metadata)
        if not single:
            ids.unlink(missing_ok=True)
        part.replace(path)
    except SafetensorError as error:
        raise OSError(f"{path}: can't write the vectors: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    if not single:
        lines = [json.dumps({"id": entry.id, **entry.payload}, ensure_ascii=False) for entry in entries]
        ids.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
