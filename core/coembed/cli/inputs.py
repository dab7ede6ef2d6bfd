"""Files, lines and texts to items, and items to rows, a chunk at a time; what is bad is named or set aside."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coembed.cli import UsageError, flags
from coembed.items import BadItem

if TYPE_CHECKING:
    from coembed.embedding import Embedding
    from coembed.encoder import Encoder
    from coembed.tower import Tower

CHUNK = 256  # items in memory at once; pictures are large
STDIN = "-"
TEXT = 200  # characters of a text that a payload keeps


@dataclass(frozen=True)
class Entry:
    """One item, its id, and the file it came from, as it was typed."""

    id: str
    item: Any
    path: str | None = None

    @property
    def payload(self) -> dict[str, str]:
        """What a search shows of it."""
        from coembed.cli.output import short

        text = {"text": short(self.item, TEXT)} if isinstance(self.item, str) else {}
        return ({"path": self.path} if self.path is not None else {}) | text


@dataclass
class Skipped:
    """Bad items: raised at once with their file named, or, with `keep`, collected to be written down."""

    keep: bool
    rows: list[dict[str, Any]] = field(default_factory=list)

    def bad(self, position: int, name: str, path: str | None, got: str, expected: str) -> None:
        """Note a bad item, or raise ValueError naming it."""
        if not self.keep:
            raise ValueError(f"item {position} ({name}): got {got}, expected {expected}; --on-error skip leaves it out")
        self.rows.append({"position": position, "id": name, "path": path, "got": got, "expected": expected})

    def write(self, out: Path) -> Path | None:
        """Write what was skipped to `OUT.skipped.jsonl`, in the order of the inputs; returns its path, None if none."""
        path = out.with_name(f"{out.name}.skipped.jsonl")
        path.unlink(missing_ok=True)
        if not self.rows:
            return None
        rows = sorted(self.rows, key=lambda row: row["position"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """The inputs of `embed` and `index`."""
    take = parser.add_argument
    take("inputs", nargs="*", metavar="INPUT", help="a file, a folder (every file in it), or - (lines from stdin)")
    take("--text", action="append", default=[], metavar="TEXT", help="a text as an item; may be repeated")
    take("--glob", default="*", metavar="PATTERN", help="which files of a folder, such as '*.png' (default: all)")
    take("--role", help="the prompt to use, such as query or document")
    take("--batch-size", type=int, default=32, metavar="N", help="items in a batch (default: 32)")
    take(
        "--on-error",
        choices=["raise", "skip"],
        default="raise",
        help="stop at a bad item, or leave it out and write it to OUT.skipped.jsonl (default: raise)",
    )
    flags.add_device(parser)


def rows(part: Encoder | Tower, args: argparse.Namespace, skipped: Skipped) -> Iterator[tuple[list[Entry], Embedding]]:
    """The items of the inputs and their rows, a chunk at a time, bad ones left out as `skipped` says.

    Raises UsageError if there are no inputs, ValueError if they hold no item.
    """
    from coembed.progress import bar

    files = given(args)
    with bar("read and encode", len(files) + len(args.text), unit="inputs") as advance:
        count = 0
        for entries in _chunks(read(encoder_of(part), files, args.text, skipped, advance)):
            yield _encode(part, entries, args, skipped)
            count += len(entries)
    if not count and not skipped.rows:
        raise ValueError(f"no items in {', '.join(args.inputs)}: the inputs are empty")


def given(args: argparse.Namespace) -> list[tuple[str, Path | None]]:
    """The files that the inputs name; raises UsageError if there are no inputs at all, otherwise as `found`."""
    if not args.inputs and not args.text:
        raise UsageError("give files, folders, - or --text")
    return list(found(args.inputs, args.glob))


def found(inputs: Sequence[str], glob: str) -> Iterator[tuple[str, Path | None]]:
    """Names and files; hidden files of folders are left out. The name of a file in the one folder is relative to it.

    Raises FileNotFoundError for an input that is not there, ValueError for a folder without such files.
    """
    for given in inputs:
        path = Path(given)
        if given == STDIN:
            yield "stdin", None
        elif path.is_dir():
            inside = [p for p in sorted(path.rglob(glob)) if p.is_file() and not _hidden(p.relative_to(path))]
            if not inside:
                raise ValueError(f"{path}: no file matches {glob!r} in this folder")
            for file in inside:
                yield (file.relative_to(path) if len(inputs) == 1 else file).as_posix(), file
        elif path.exists():
            yield path.as_posix(), path
        else:
            raise FileNotFoundError(f"{given}: no such file or folder; a text goes after --text, lines come by -")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def read(
    encoder: Encoder, files: Iterable[tuple[str, Path | None]], texts: Sequence[str], skipped: Skipped, advance: Any
) -> Iterator[tuple[int, Entry]]:
    """Every item with its position among all; a file that can't be read is one bad item."""
    position = 0
    for name, path in files:
        items: list[Any] = []
        if path is None:
            lines = ((number, line.rstrip("\r\n")) for number, line in enumerate(sys.stdin, 1))
            entries = [Entry(f"{name}#{number}", line) for number, line in lines if line.strip()]
        else:
            try:
                items = encoder.read(path)
            except BadItem as error:
                skipped.bad(position, name, str(path), error.got, error.expected)
                position += 1
            except (ValueError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                skipped.bad(position, name, str(path), "a file that can't be read", f"a readable file ({reason})")
                position += 1
            ids = [name] if len(items) == 1 else [f"{name}#{number}" for number in range(1, len(items) + 1)]
            entries = [Entry(id, item, str(path)) for id, item in zip(ids, items, strict=True)]
        for entry in entries:
            yield position, entry
            position += 1
        advance(1)
    for number, text in enumerate(texts, 1):
        yield position, Entry(f"text#{number}", text)
        position += 1
        advance(1)


def _chunks(entries: Iterator[tuple[int, Entry]]) -> Iterator[list[tuple[int, Entry]]]:
    chunk: list[tuple[int, Entry]] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _encode(
    part: Encoder | Tower, chunk: list[tuple[int, Entry]], args: argparse.Namespace, skipped: Skipped
) -> tuple[list[Entry], Embedding]:
    def bad(error: BadItem) -> None:
        position, entry = chunk[error.position]
        skipped.bad(position, entry.id, entry.path, error.got, error.expected)

    encoded = part.encode(
        [entry.item for _, entry in chunk],
        role=args.role,
        dim=getattr(args, "dim", None),
        batch_size=args.batch_size,
        on_error=bad,
    )
    kept = encoded.present.nonzero().flatten().tolist()
    return [chunk[i][1] for i in kept], encoded[kept]


def encoder_of(part: Encoder | Tower) -> Encoder:
    """The encoder, of a tower its own."""
    from coembed.tower import Tower

    return part.encoder if isinstance(part, Tower) else part
