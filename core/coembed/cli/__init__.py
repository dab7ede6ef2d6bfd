"""The `coembed` command: a table of commands, each in its own file, imported when it is called.

Exit codes: 0 done, 1 failed with one clear message (`--debug` shows the traceback), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from collections.abc import Sequence

# name -> (module with `configure(parser)` and `run(args) -> int`, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "plugins": ("coembed.cli.plugins", "list the installed plugins; --check loads each and says why one fails"),
    "list": ("coembed.cli.list", "list the components that are installed, or known"),
    "info": ("coembed.cli.info", "show everything about one component"),
    "demo": ("coembed.cli.demo", "bind seven modalities of real data in one space and search it"),
    "align": ("coembed.cli.align", "train a space on pairs, from a run file or flags"),
    "embed": ("coembed.cli.embed", "turn items or files into vectors"),
    "index": ("coembed.cli.index", "index items or files for search"),
    "search": ("coembed.cli.search", "search an index of one tower with items of another"),
    "serve": ("coembed.cli.serve", "search a space from a page, or over HTTP"),
    "eval": ("coembed.cli.eval", "measure retrieval between the towers of a space"),
    "merge": ("coembed.cli.merge", "merge spaces that were trained apart from one start"),
    "grow": ("coembed.cli.grow", "make a tower of a space wider and deeper"),
    "install": ("coembed.cli.install", "install plugins by name, keeping the torch that is there"),
    "uninstall": ("coembed.cli.uninstall", "uninstall plugins by name"),
    "new": ("coembed.cli.new", "begin a plugin: a package that passes the conformance kit as written"),
    "check": ("coembed.cli.check", "hold a plugin to every promise that it makes, and say which one it breaks"),
    "registry": ("coembed.cli.registry", "compare registry.yaml with the installed specs, or write it"),
}


class UsageError(Exception):
    """Arguments that do not go together, found after parsing; ends with exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse, but a usage error is one line and names the command's help."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print the message and exit with code 2."""
        self.exit(2, f"{self.prog}: {message}\nSee `{self.prog} --help`.\n")


def parser() -> argparse.ArgumentParser:
    """The parser of `coembed` itself, without any command's own flags."""
    top = Parser(
        prog="coembed",
        description="Embed any modality, align modalities in one space, search one with another.",
        epilog="commands:\n" + "\n".join(f"  {name:10} {line}" for name, (_, line) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="coembed [--version] [--debug] COMMAND …",
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    top.add_argument("command", nargs="?", metavar="COMMAND", help="see below; `coembed COMMAND --help` tells more")
    top.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return top


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command; imports its module."""
    module, line = COMMANDS[name]
    description = line[0].upper() + line[1:] + "."
    # Abbreviated flags would break in scripts as soon as a second flag begins alike.
    own = Parser(prog=f"coembed {name}", description=description, allow_abbrev=False)
    own.add_argument("--debug", action="store_true", help="show the traceback of an error")
    importlib.import_module(module).configure(own)
    return own


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    top = parser()
    args = top.parse_args(argv)
    if args.version:
        from coembed import __version__

        print(f"coembed {__version__}")
        return 0
    if args.command is None:
        top.print_help()
        return 0
    if args.command not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(args.command, COMMANDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        top.error(f"no command {args.command!r}{hint}")
    own = command_parser(args.command)
    given = own.parse_intermixed_args(args.rest)  # positionals may stand before, between and after flags
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = int(importlib.import_module(COMMANDS[args.command][0]).run(given))
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
        return code
    except UsageError as error:
        own.error(str(error))
    except KeyboardInterrupt:
        print("coembed: stopped", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has gone: nothing is wrong
        _silence()
        return 0
    except Exception as error:
        if args.debug or given.debug:
            raise
        print(f"coembed {args.command}: {message(error)}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # the error is about the output itself
            _silence()
        return 1


def _silence() -> None:
    """Let go of an output that can't be written, or Python would complain of it once more as it ends."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def message(error: BaseException) -> str:
    """One clear line for an error.

    >>> message(OSError(28, "No space left on device", "space/space.json"))
    'space/space.json: No space left on device'
    """
    text = str(error)
    if isinstance(error, KeyError) and error.args:  # its own text is quoted by Python
        text = str(error.args[0])
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    text = " ".join(text.split())
    ours = type(error).__module__.partition(".")[0] == "coembed"
    if text and (ours or isinstance(error, (ValueError, KeyError, OSError, TypeError))):
        return text
    return f"{type(error).__name__}: {text or 'no message'} (--debug shows where)"


def _warn(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
    """A warning as one line; ours without the name of a class that tells a user nothing."""
    from coembed.plugins import CoembedWarning

    name = "warning" if issubclass(category, CoembedWarning) else category.__name__
    print(f"coembed: {name}: {' '.join(str(message).split())}", file=sys.stderr)
