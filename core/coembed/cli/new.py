"""coembed new: begin a plugin, as a package that passes the conformance kit as written."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = (
        "The modality is an open word: take that of the encoders whose items yours shall take (text, image, protein), "
        "or a new one. docs/authors/tutorial.md goes on from here."
    )
    take = parser.add_argument
    take("name", metavar="NAME", help="the plugin's name, which owns the prefix NAME/")
    take("--modality", required=True, metavar="WORD", help="what its encoder reads, such as text or peptide-ms2")
    take(
        "--items",
        choices=["strings", "rows"],
        help="what one item is: a string, or rows of numbers such as peaks, frames or points (default: strings for "
        "text, code, dna and protein, else rows)",
    )
    take("--package", metavar="PACKAGE", help="what pip calls it (default: coembed-NAME)")
    take("--out", metavar="DIR", help="the folder to write; it must be empty or not there (default: ./PACKAGE)")


def run(args: argparse.Namespace) -> int:
    """Check the names, write the files, say what comes next."""
    from coembed import scaffold
    from coembed.cli import output

    package = args.package or f"coembed-{args.name}"
    plan = scaffold.Scaffold(args.name, args.modality, package, args.items or scaffold.items_of(args.modality))
    folder = Path(args.out or package)
    for path in plan.write(folder):
        print(folder / path)
    output.note("Next:")
    output.note(f"  pip install -e '{folder if folder.is_absolute() else f'./{folder}'}[test]'")
    output.note(f"  coembed check {plan.name}")
    output.note(f"  edit {folder / plan.module / 'model.py'}")
    return 0
