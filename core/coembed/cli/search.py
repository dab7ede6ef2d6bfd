"""coembed search: items of one tower find those of another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError, flags

if TYPE_CHECKING:
    from coembed.embedding import Embedding
    from coembed.encoder import Encoder
    from coembed.index import Index


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = (
        "A QUERY is an item as it stands if the --from tower reads strings (text, code, DNA), else the path of a file. "
        "@PATH is always a file, each item in it a query; @@ begins a text whose first letter is @. What a file holds "
        "is never guessed: the tower reads it."
    )
    take = parser.add_argument
    take("space", nargs="?", metavar="SPACE", help="a saved space; not needed with --vectors and --index")
    take("query", nargs="*", metavar="QUERY", help="what to search with; see below")
    take("--from", dest="source", metavar="TOWER", help="the tower that reads the queries")
    take("--to", dest="target", metavar="TOWER", help="the tower whose items are searched")
    take("--vectors", metavar="DIR", help="vectors as queries, which `coembed embed` wrote")
    take("--where", metavar="FILTER", help="search only what passes a filter of payloads, such as \"lang == 'de'\"")
    take(
        "--not", dest="undesired", action="append", default=[], metavar="QUERY", help="what the hits shall not be about"
    )
    take(
        "--hybrid", action="store_true", help="fuse with BM25 over the texts that payloads keep; scores are then ranks'"
    )
    take("--file", action="append", default=[], metavar="PATH", help="a file as a query; the same as @PATH")
    take("-k", type=int, default=10, metavar="N", help="how many to show (default: 10)")
    take("--index", metavar="DIR", help="the index to search (default: SPACE/index/TOWER)")
    take("--role", help="the prompt of the queries, such as query")
    take("--no-pictures", action="store_true", help="show the paths of pictures only, as where there is no terminal")
    flags.add_device(parser)
    flags.add_json(parser, "queries and hits")


def run(args: argparse.Namespace) -> int:
    """Encode the queries, search, show."""
    from coembed.cli import output

    if args.k < 1:
        raise UsageError(f"-k {args.k} must be at least 1")
    if args.where is not None:
        from coembed.index import Filter

        Filter(args.where)  # said before anything is loaded
    if args.undesired or args.hybrid:
        from coembed.cli import refine

        refine.check(args)
    if args.vectors is not None:
        index, labels, rows = _by_vectors(args)
        found = index.search(rows, k=args.k, where=args.where)
    else:
        index, queries, rows, encoder = _by_items(args)
        labels = [label for label, _ in queries]
        if args.hybrid:
            words = refine.words_of(_folder(args).resolve())
            found = refine.hybrid(index, [item for _, item in queries], rows, args.k, args.where, encoder, words)
        else:
            found = index.search(rows, k=args.k, where=args.where)
    if args.json:
        hits = [[{"id": hit.id, "score": hit.score, "payload": hit.payload} for hit in some] for some in found]
        output.emit(
            {
                "from": args.source,
                "to": args.target,
                "queries": [{"query": label, "hits": some} for label, some in zip(labels, hits, strict=True)],
            }
        )
        return 0
    for label, some in zip(labels, found, strict=True):
        lines = [[rank, hit.score, hit.id, output.short(_shown(hit.payload))] for rank, hit in enumerate(some, 1)]
        output.table(["", "score", args.target or "id", ""], lines, output.short(label))
        if not args.no_pictures:
            _show([hit.payload for hit in some])
    return 0


def _by_items(args: argparse.Namespace) -> tuple[Index, list[tuple[str, Any]], Embedding, Encoder]:
    """The index, each query and what it is called, the queries encoded, and the encoder of what is searched."""
    from coembed.cli import target

    if args.space is None:
        raise UsageError("give a SPACE, or --vectors and --index")
    for flag, tower in (("--from", args.source), ("--to", args.target)):
        if tower is None:
            raise UsageError(f"{flag} is needed: a tower of {args.space}")
    if not args.query and not args.file:
        raise UsageError("give a QUERY or --file")
    _check_towers(args)
    index = open_saved(args)
    space = target.open_space(args.space, args.device)
    asked = [*args.query, *(f"@{path}" for path in args.file)]
    queries = [pair for text in asked for pair in read(text, space[args.source].encoder)]
    if not queries:
        raise ValueError(f"{', '.join(args.file or args.query)}: no item to search with")
    rows = space.encode(args.source, [item for _, item in queries], role=args.role)
    if args.undesired:
        from coembed.cli import refine

        undesired = [item for text in args.undesired for _, item in read(text, space[args.source].encoder)]
        rows = refine.without(rows, space.encode(args.source, undesired, role=args.role))
    return index, queries, rows, space[args.target].encoder


def _by_vectors(args: argparse.Namespace) -> tuple[Index, list[str], Embedding]:
    from coembed.cli.vectors import read as stored
    from coembed.embedding import Embedding
    from coembed.index import open_index

    if args.query or args.file:
        raise UsageError("--vectors are the queries: leave QUERY and --file out")
    if args.index is not None:
        index = open_index(args.index)
    elif args.space is not None and args.target is not None:
        index = open_saved(args)
    else:
        raise UsageError("--vectors needs --index, or SPACE and --to")
    parts = list(stored(args.vectors))
    return index, [name for ids, _, _ in parts for name in ids], Embedding.cat([rows for _, rows, _ in parts])


def _check_towers(args: argparse.Namespace) -> None:
    """Name the towers that there are, before asking for an index of one that there is not."""
    import json

    try:
        towers = json.loads((Path(args.space) / "space.json").read_text(encoding="utf-8"))["towers"]
    except (OSError, ValueError, KeyError):  # not a whole space: opening it says so, and better
        return
    for tower in (args.source, args.target):
        if tower not in towers:
            raise ValueError(f"{args.space} has no tower {tower!r}; its towers: {', '.join(towers)}")


def _show(payloads: list[Any]) -> None:
    """The pictures among the hits, in a terminal."""
    from coembed.cli import pictures

    for rank, payload in enumerate(payloads, 1):
        path = payload.get("path") if isinstance(payload, dict) else None
        if isinstance(path, str) and pictures.shown(path):
            print(f"{rank}  {path}")
            print(pictures.picture(path), end="")


def read(text: str, encoder: Encoder) -> list[tuple[str, Any]]:
    """The queries behind one argument, each with what to call it."""
    from coembed.cli import output

    words = takes_strings(encoder)
    if text.startswith("@@") and words:
        return [(text[1:], text[1:])]
    if words and not text.startswith("@"):
        if Path(text).is_file():
            output.note(f"{text} is searched for as it stands; write @{text} to read the file of that name")
        return [(text, text)]
    path = Path(text.removeprefix("@"))
    if not path.exists():
        hint = "" if words else f"; items of modality {encoder.spec.modality} are read from files"
        raise FileNotFoundError(f"{path}: no such file{hint}")
    items = encoder.read(path)
    if len(items) == 1:
        return [(str(path), items[0])]
    return [(f"{path}#{number}", item) for number, item in enumerate(items, 1)]


def takes_strings(encoder: Encoder) -> bool:
    """Whether items of this encoder are strings: it says so by its own samples."""
    return any(isinstance(item, str) for item in type(encoder).samples())


def open_saved(args: argparse.Namespace) -> Index:
    """The index that is asked for; raises FileNotFoundError with the command that makes it."""
    from coembed.cli import output
    from coembed.cli.index import state
    from coembed.index import open_index

    folder = _folder(args)
    if not folder.is_dir():
        command = f"coembed index {args.space} --tower {args.target} FOLDER"
        where = "" if args.index is None else f" --out {args.index}"
        raise FileNotFoundError(f"{folder}: no index of {args.target}; make it by `{command}{where}`")
    index = open_index(folder)
    made = index.meta.get("tower")
    if made is not None and made != args.target:
        raise ValueError(f"{folder} is an index of tower {made}, not of {args.target}")
    try:
        stale = index.meta.get("state") not in (None, state(Path(args.space), args.target))
    except (OSError, ValueError, KeyError):  # not a whole space: opening it says so, and better
        stale = False
    if stale:
        output.note(f"warning: {folder} was made before the space was trained anew: make it again by `coembed index`")
    return index


def _folder(args: argparse.Namespace) -> Path:
    from coembed.cli.index import default

    return Path(args.index) if args.index is not None else default(args.space, args.target)


def _shown(payload: Any) -> Any:
    """What a line has room for: the text of a hit, else the file it came from, else its name."""
    known = [key for key in ("text", "path", "name") if isinstance(payload, dict) and key in payload]
    return payload[known[0]] if known else payload
