"""coembed serve: a page and an API to search a space from; the work is done by the package coembed-serve."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from coembed.cli import UsageError, flags

TOKEN = "COEMBED_TOKEN"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = (
        "Needs the package coembed-serve. The page shows what each index holds as what it is: pictures, sounds with a "
        "player, sequences, code, graphs, and a map of the space. It is bound to this machine alone unless --host says "
        f"otherwise; then a token is needed, taken from --token-file or the environment variable {TOKEN}, else made "
        "and printed. /openapi.json describes the API, /metrics has figures for Prometheus, /health says that it works."
    )
    take = parser.add_argument
    take("space", metavar="SPACE", help="a saved space")
    take("indexes", nargs="*", metavar="INDEX", help="indexes to search, or TOWER=INDEX (default: all in SPACE/index)")
    take("--host", default="127.0.0.1", metavar="NAME", help="the address to listen at (default: 127.0.0.1)")
    take("--port", type=int, default=8765, metavar="N", help="the port; 0 takes any free one (default: 8765)")
    take("--token-file", type=Path, metavar="FILE", help="a file that holds the token")
    take("--allow-host", action="append", default=[], metavar="NAME", help="a further name that it is reached by")
    take("--media", action="append", default=[], type=Path, metavar="DIR", help="show files of this folder, if indexed")
    take("--max-mb", type=float, default=16, metavar="N", help="the largest request in MB (default: 16)")
    take("--seconds", type=float, default=30, metavar="N", help="the longest a request may take (default: 30)")
    take("--rate", type=float, default=600, metavar="N", help="searches a minute of a client; 0: any (default: 600)")
    take("--queue", type=int, default=256, metavar="N", help="searches that may wait (default: 256)")
    take("--batch", type=int, default=32, metavar="N", help="searches answered together (default: 32)")
    take("--map", choices=["auto", "pca"], default="auto", help="its layout: PaCMAP if installed, or PCA")
    flags.add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Open the space and its indexes, and serve them."""
    try:
        from coembed_serve import command
        from coembed_serve.settings import Settings
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        missing = "" if name == "coembed_serve" else f" ({name} is missing)"
        raise ValueError(f"this needs the package coembed-serve{missing}: run `coembed install serve`") from error
    from coembed.cli import output, target

    given = args.token_file.read_text(encoding="utf-8").strip() if args.token_file else os.environ.get(TOKEN) or None
    try:
        settings = Settings(
            host=args.host,
            port=args.port,
            token=command.token(given, args.host),
            hosts=frozenset(args.allow_host),
            media=tuple(args.media),
            body=int(args.max_mb * (1 << 20)),
            seconds=args.seconds,
            rate=args.rate,
            queue=args.queue,
            batch=args.batch,
            layout=args.map,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    space = target.open_space(args.space, args.device)
    return command.serve(space, Path(args.space), args.indexes, settings, output.note)
