"""coembed index: build, add, delete, info: items, files or vectors kept for search in one folder that grows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError, flags
from coembed.cli.inputs import Skipped, add_inputs, rows

if TYPE_CHECKING:
    from coembed.embedding import Embedding
    from coembed.index import Index

ACTIONS = ("build", "add", "delete", "info")
STAGED = 32_768  # rows in memory at once while building


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.usage = (
        "coembed index [build|add] SPACE INPUT… --tower NAME\n"
        "       coembed index [build|add] --vectors DIR --out DIR\n"
        "       coembed index delete SPACE|INDEX ID… [--where FILTER]\n"
        "       coembed index info SPACE|INDEX [--report]"
    )
    parser.epilog = (
        "build makes an index anew, add puts items into one that is there, those of an id that it has in place of the "
        "old, delete takes ids out, info says what there is. Without a word it builds. An id is the path within the "
        "folder, with #1, #2, … where a file holds several items. Searches go on meanwhile, over the state before; "
        "what is stopped leaves that state as it was."
    )
    take = parser.add_argument
    take("action", nargs="?", metavar="ACTION", help="build (default), add, delete or info")
    take("space", nargs="?", metavar="SPACE", help="a saved space; to delete and info also the folder of an index")
    add_inputs(parser)
    take("--tower", metavar="NAME", help="the tower that reads the items")
    take("--vectors", metavar="DIR", help="take vectors that `coembed embed` wrote instead of items")
    take("--where", metavar="FILTER", help="delete what passes a filter of payloads, such as \"lang == 'de'\"")
    take("--kind", default="exact", metavar="NAME", help="the registered index to build (default: exact)")
    flags.add_options(parser, "the index, such as keep=int8 (see `coembed info NAME`)")
    take("--out", metavar="DIR", help="where the index is (default: SPACE/index/TOWER)")
    take("--report", action="store_true", help="with info: measure recall, bytes and speed on a sample of its rows")
    flags.add_json(parser, "what was written, or what there is")


def run(args: argparse.Namespace) -> int:
    """Do as the first word says."""
    words = [word for word in (args.action, args.space) if word is not None]
    args.action = words.pop(0) if words and words[0] in ACTIONS else "build"
    words += args.inputs
    if args.vectors is not None and words:
        raise UsageError(f"--vectors goes without SPACE and INPUT, got {words[0]}")
    args.space, args.inputs = words[0] if words else None, words[1:]
    if args.where is not None and args.action != "delete":
        raise UsageError("--where goes with delete; to search, `coembed search … --where`")
    if args.report and args.action != "info":
        raise UsageError("--report goes with info")
    return {"build": build, "add": build, "delete": delete, "info": info}[args.action](args)


def build(args: argparse.Namespace) -> int:
    """Read, encode, index, save; anew, or into the index that is there."""
    from coembed.cli import output, target
    from coembed.index import Stored, open_index, writing
    from coembed.plugins import load

    skipped = Skipped(keep=args.on_error == "skip")
    if args.vectors is not None:
        if args.out is None:
            raise UsageError("--vectors needs --out, where the index goes")
        parts, meta, space = _vectors(args.vectors), {"tower": args.tower} if args.tower else {}, None
    else:
        if args.space is None:
            raise UsageError("give a SPACE, or --vectors")
        if args.tower is None:
            raise UsageError("--tower is needed: the tower that reads the items")
        space = target.open_space(args.space, args.device)
        parts = _items(space[args.tower], args, skipped)
        meta = {"tower": args.tower, "state": state(Path(args.space), args.tower), "role": args.role}
    out = Path(args.out) if args.out is not None else default(args.space, args.tower)
    if args.set and args.action == "add":
        raise UsageError("--set goes with build: an index keeps the arguments that it was built with")
    fresh: Index | None = None if args.action == "add" else load(args.kind, "index", **flags.options(args.set))
    with writing(out) if fresh is None or isinstance(fresh, Stored) else nullcontext():
        index = _grown(open_index(out), out, meta) if fresh is None else fresh
        count, pending = 0, 0
        for ids, vectors, payloads in parts:
            (index.update if args.action == "add" else index.add)(ids, vectors, payloads)
            count, pending = count + len(ids), pending + len(ids)
            if isinstance(index, Stored) and pending >= STAGED:
                index.stage(out)
                pending = 0
        if not count:
            raise ValueError(f"nothing to index: {_first(skipped) if skipped.rows else 'there are no vectors'}")
        index.meta |= meta
        index.save(out)
    path = skipped.write(out)
    if path is not None:
        output.note(f"{len(skipped.rows)} items skipped: see {path}")
    facts = {"count": len(index), "skipped": len(skipped.rows), "tower": index.meta.get("tower"), "out": str(out)}
    if args.json:
        output.emit(facts if args.action == "build" else facts | {"added": count})
    else:
        added = f"{len(index)} items" if args.action == "build" else f"{count} items added, {len(index)} now"
        output.note(f"{added} -> {out}. Next:")
        where = "" if args.out is None else f" --index {out}"
        if space is None:
            output.note(f"  coembed search{where} --vectors DIR")
        else:
            other = next((name for name in space if name != args.tower), args.tower)
            output.note(f"  coembed search {args.space} --from {other} --to {args.tower}{where} QUERY")
    return 0


def delete(args: argparse.Namespace) -> int:
    """Take ids out of an index, or what passes a filter."""
    from coembed.cli import output
    from coembed.index import open_index, writing

    if bool(args.inputs) == (args.where is not None):
        raise UsageError("give the IDs to delete, or --where")
    out = _found(args)
    with writing(out):
        index = open_index(out)
        ids = args.inputs
        if args.where is not None:
            select = getattr(index, "select", None)  # not every index can say what passes
            if select is None:
                raise ValueError(f"{out}: an index of kind {index.kind} deletes by ids, not by --where: name them")
            ids = select(args.where)
        index.delete(ids)
        index.save(out)
    if args.json:
        output.emit({"deleted": len(ids), "count": len(index), "out": str(out)})
    else:
        output.note(f"{len(ids)} items deleted, {len(index)} left in {out}")
    return 0


def info(args: argparse.Namespace) -> int:
    """Say what an index holds."""
    from coembed.cli import output
    from coembed.index.folder import read_facts

    if args.inputs:
        raise UsageError(f"info takes one folder, got {args.inputs[0]} too")
    out = _found(args)
    facts = read_facts(out)
    segments = facts.get("segments", [])
    data = {
        "out": str(out),
        "kind": facts["kind"],
        "count": facts.get("count"),
        "dim": facts.get("dim"),
        "bytes": sum((out / name).stat().st_size for name in facts["files"] if (out / name).exists()),
        "segments": len(segments),
        "deleted": sum(part["rows"] - part["live"] for part in segments),
        "meta": facts.get("meta", {}),
    }
    if args.report:
        from coembed.index import open_index

        report = open_index(out).report()
        data["report"] = report.to_json()
    if args.json:
        output.emit(data)
    else:
        lines = [(name, value) for name, value in data.items() if name not in ("bytes", "meta", "report")]
        lines += [("MB", round(data["bytes"] / 1e6, 1)), *((f"meta {k}", v) for k, v in data["meta"].items())]
        output.table(["", ""], [[name, value if isinstance(value, float) else str(value)] for name, value in lines])
        if args.report:
            print(report)
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


def _items(tower: Any, args: argparse.Namespace, skipped: Skipped) -> Iterator[tuple[list[str], Embedding, list[Any]]]:
    for entries, encoded in rows(tower, args, skipped):
        if entries:
            yield [entry.id for entry in entries], encoded, [entry.payload for entry in entries]


def _vectors(given: str) -> Iterator[tuple[list[str], Embedding, list[Any]]]:
    from coembed.cli.vectors import read

    return read(given)


def _grown(index: Index, out: Path, meta: dict[str, Any]) -> Index:
    """The index to add to; raises ValueError if its vectors are of another tower, or of the tower as it was."""
    for name, said in (("tower", "is an index of tower {}, not of {}"), ("state", "was made before the space was")):
        old, new = index.meta.get(name), meta.get(name)
        if old is not None and new is not None and old != new:
            text = said.format(old, new) if name == "tower" else f"{said} trained anew: build it again"
            raise ValueError(f"{out} {text}")
    return index


def _found(args: argparse.Namespace) -> Path:
    """The index that is meant: --out, the folder itself, or that of the space's tower."""
    if args.out is not None:
        return Path(args.out)
    if args.space is None:
        raise UsageError("give the folder of an index, a SPACE with --tower, or --out")
    given = Path(args.space)
    if args.tower is not None:
        return default(args.space, args.tower)
    if (given / "index.json").exists():
        return given
    there = sorted(path.name for path in (given / "index").iterdir()) if (given / "index").is_dir() else []
    if len(there) == 1:
        return given / "index" / there[0]
    if there:
        raise UsageError(f"{given} has indexes of {', '.join(there)}: choose one by --tower")
    raise FileNotFoundError(f"{given}: neither an index nor a space with one; `coembed index build` makes one")


def _first(skipped: Skipped) -> str:
    row = skipped.rows[0]
    return f"all {len(skipped.rows)} items were bad: {row['id']}: got {row['got']}, expected {row['expected']}"
