"""coembed install: plugins by name, keeping the torch that is there."""

from __future__ import annotations

import argparse

from coembed.cli import flags


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = (
        "pip of the running Python installs, with torch, torchvision and torchaudio held as they are; if that can't "
        "be, nothing is changed. pip's own settings hold: PIP_INDEX_URL, PIP_FIND_LINKS, PIP_NO_INDEX."
    )
    take = parser.add_argument
    take("names", nargs="+", metavar="NAME", help="a plugin (dna), a component (dna/kmer) or a package (coembed-dna)")
    take("--any", action="store_true", help="install a package that registry.yaml does not know, by its full name")
    take("--upgrade", action="store_true", help="take a newer version where there is one")
    take("--dry-run", action="store_true", help="only say what would change")
    take("--yes", action="store_true", help="do not ask")
    flags.add_json(parser, "what changes")


def run(args: argparse.Namespace) -> int:
    """Resolve, plan, ask, install."""
    from coembed import install
    from coembed.cli import output

    asked = [install.requirement(name, anything=args.any) for name in args.names]
    output.note("asking pip what would change …")
    changes = install.plan(asked, upgrade=args.upgrade)
    facts = [{"package": change.package, "old": change.old, "new": change.new} for change in changes]
    if not args.json and changes:
        output.table(["package", "now", "will be"], [list(fact.values()) for fact in facts])
    done = False
    if not changes:
        output.note(f"{', '.join(asked)}: there already")
    elif not args.dry_run:
        if not args.yes and not confirm("Install these?"):
            output.note("Nothing was changed.")
            return 1
        install.install(asked, changes, upgrade=args.upgrade)
        done = True
        output.note("Installed. `coembed plugins --check` shows whether each plugin loads.")
    if args.json:
        output.emit({"requirements": asked, "changes": facts, "installed": done})
    return 0


def confirm(question: str) -> bool:
    """Ask at the terminal; without one, nobody can say yes."""
    import sys

    if not sys.stdin.isatty():
        raise ValueError("nobody is there to confirm it: give --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
