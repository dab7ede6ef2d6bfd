"""The command `coembed-dna`: index a reference, align reads to it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from coembed_dna.esa.mapper import Mapper
    from coembed_dna.esa.reads import BadRead
    from coembed_dna.esa.refine import Alignment

__all__ = ["main"]

_SHOWN = 10  # bad reads named one by one


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="coembed-dna", description="Map reads to a reference by their vectors.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    index = commands.add_parser("index", help="embed a reference's fragments and save them")
    index.add_argument("reference", type=Path, help="FASTA or GenBank file, gzipped or not")
    index.add_argument("folder", type=Path, help="new folder for the index")
    index.add_argument("--space", type=Path, help="folder of a trained space (default: spectra of 11-mers)")
    align = commands.add_parser("align", help="map reads; bad reads are named and left out")
    align.add_argument("target", type=Path, help="a folder that `index` wrote, or a FASTA or GenBank file")
    align.add_argument("reads", type=Path, nargs="+", help="FASTQ or FASTA files, gzipped or not")
    align.add_argument("-o", "--out", type=Path, help="file to write (default: standard output)")
    align.add_argument("--paf", action="store_true", help="write PAF instead of SAM")
    align.add_argument("-k", type=int, default=5, help="candidates aligned for each read (default: %(default)s)")
    align.add_argument(
        "--max-error", type=float, default=0.2, help="most edits, as a share of the read (default: %(default)s)"
    )
    for command in (index, align):
        command.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")
    index.add_argument("--fragment", type=int, default=1250, help="bases of a fragment (default: %(default)s)")
    index.add_argument("--step", type=int, default=1000, help="bases from one to the next (default: %(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it was done, 1 with one message when it could not be."""
    options = _parser().parse_args(arguments)
    try:
        return _index(options) if options.command == "index" else _align(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"coembed-dna {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was left half written", file=sys.stderr)
        return 130


def _index(options: argparse.Namespace) -> int:
    from coembed.space import Space
    from coembed_dna.esa.mapper import Mapper

    encoder = Space.load(options.space) if options.space else None
    mapper = Mapper.build(
        options.reference, encoder, fragment=options.fragment, step=options.step, progress=not options.quiet
    )
    mapper.save(options.folder)
    _tell(options, f"{len(mapper.tiling.fragments)} fragments: each read of up to {mapper.tiling.covers} bases in one")
    for part in mapper.tiling.skipped:
        _tell(options, f"skipped {part.name}: N alone")
    return 0


def _align(options: argparse.Namespace) -> int:
    from coembed.progress import bar
    from coembed_dna.esa.mapper import Mapper
    from coembed_dna.esa.output import paf, sam
    from coembed_dna.esa.reads import stream_reads

    show = not options.quiet
    target = options.target
    mapper: Mapper = Mapper.load(target) if target.is_dir() else Mapper.build(target, progress=show)
    total = sum(1 for path in options.reads for _ in stream_reads(path)) if show else 0  # and broken files end it here
    bad: list[BadRead] = []
    done = placed = 0
    with _output(options.out) as file, bar("align", total, show, "reads") as advance:

        def counted(hits: Iterable[Alignment]) -> Iterator[Alignment]:
            nonlocal done, placed
            for hit in hits:
                done += 1
                placed += hit.contig is not None
                advance(1)
                yield hit

        stream = chain.from_iterable(map(stream_reads, options.reads))
        hits = counted(mapper.align(stream, k=options.k, max_error=options.max_error, on_error=bad.append))
        write = paf if options.paf else sam
        file.writelines(f"{line}\n" for line in write(hits, mapper.reference))
    _tell(options, f"{placed} of {done} reads placed" + (f", {len(bad)} bad reads left out" if bad else ""))
    for error in bad[:_SHOWN]:
        print(f"coembed-dna align: {error}", file=sys.stderr)
    if len(bad) > _SHOWN:
        print(f"coembed-dna align: and {len(bad) - _SHOWN} more bad reads", file=sys.stderr)
    return 0


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that is there whole or not at all."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="ascii") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _tell(options: argparse.Namespace, line: str) -> None:
    if not options.quiet:
        print(line, file=sys.stderr)
