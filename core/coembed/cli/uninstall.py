"""coembed uninstall: plugins by name."""

from __future__ import annotations

import argparse

from coembed.cli import flags


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = "What a plugin needed stays: another package may need it too."
    take = parser.add_argument
    take("names", nargs="+", metavar="NAME", help="a plugin (dna), a component (dna/kmer) or a package (coembed-dna)")
    take("--any", action="store_true", help="uninstall a package that is no plugin, by its full name")
    take("--dry-run", action="store_true", help="only say what would change")
    take("--yes", action="store_true", help="do not ask")
    flags.add_json(parser, "what changes")


def run(args: argparse.Namespace) -> int:
    """Resolve, ask, uninstall."""
    from coembed import install
    from coembed.cli import output
    from coembed.cli.install import confirm

    packages = list(dict.fromkeys(install.installed_package(name, anything=args.any) for name in args.names))
    facts = [{"package": package, "old": install.there(package), "new": None} for package in packages]
    if not args.json:
        output.table(["package", "now", "will be"], [[fact["package"], fact["old"], "gone"] for fact in facts])
    if not args.dry_run:
        if not args.yes and not confirm("Uninstall these?"):
            output.note("Nothing was changed.")
            return 1
        install.uninstall(packages)
        output.note(f"Uninstalled {', '.join(packages)}.")
    if args.json:
        output.emit({"changes": facts, "uninstalled": not args.dry_run})
    return 0
