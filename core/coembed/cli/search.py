"""coembed search: items of one tower find those of another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError, flags

if TYPE_CHECKING:
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
    take("space", metavar="SPACE", help="a saved space")
    take("query", nargs="*", metavar="QUERY", help="what to search with; see below")
    take("--from", dest="source", required=True, metavar="TOWER", help="the tower that reads the queries")
    take("--to", dest="target", required=True, metavar="TOWER", help="the tower whose items are searched")
    take("--file", action="append", default=[], metavar="PATH", help="a file as a query; the same as @PATH")
    take("-k", type=int, default=10, metavar="N", help="how many to show (default: 10)")
    take("--index", metavar="DIR", help="the index to search (default: SPACE/index/TOWER)")
    take("--role", help="the prompt of the queries, such as query")
    flags.add_device(parser)
    flags.add_json(parser, "queries and hits")


def run(args: argparse.Namespace) -> int:
    """Encode the queries, search, show."""
    from coembed.cli import output, target

    if not args.query and not args.file:
        raise UsageError("give a QUERY or --file")
    if args.k < 1:
        raise UsageError(f"-k {args.k} must be at least 1")
    index = open_saved(args)
    space = target.open_space(args.space, args.device)
    asked = [*args.query, *(f"@{path}" for path in args.file)]
    queries = [pair for text in asked for pair in read(text, space[args.source].encoder)]
    if not queries:
        raise ValueError(f"{', '.join(args.file or args.query)}: no item to search with")
    rows = space.encode(args.source, [item for _, item in queries], role=args.role)
    found = index.search(rows, k=args.k)
    if args.json:
        hits = [[{"id": hit.id, "score": hit.score, "payload": hit.payload} for hit in some] for some in found]
        labels = [label for label, _ in queries]
        output.emit(
            {
                "from": args.source,
                "to": args.target,
                "queries": [{"query": label, "hits": some} for label, some in zip(labels, hits, strict=True)],
            }
        )
        return 0
    for (label, _), some in zip(queries, found, strict=True):
        lines = [[rank, hit.score, hit.id, output.short(_shown(hit.payload))] for rank, hit in enumerate(some, 1)]
        output.table(["", "score", args.target, ""], lines, output.short(label))
    return 0


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
    from coembed.cli.index import default, state
    from coembed.index import open_index

    folder = Path(args.index) if args.index is not None else default(args.space, args.target)
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


def _shown(payload: Any) -> Any:
    """What a line has room for: the text of a hit, else the file it came from."""
    if isinstance(payload, dict) and ("text" in payload or "path" in payload):
        return payload.get("text", payload.get("path"))
    return payload
