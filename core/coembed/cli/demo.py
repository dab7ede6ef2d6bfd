"""coembed demo: the main job on real data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coembed.demo.draw import Shown


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--out", type=Path, default=Path("coembed-demo"), help="folder to write (default coembed-demo)")
    parser.add_argument("--quick", action="store_true", help="one seed on a part of the data: to see that it works")
    parser.add_argument("--from-scratch", action="store_true", help="train small towers whole instead of frozen ones")
    parser.add_argument("--seeds", type=int, default=None, metavar="N", help="number of seeds (default 3; 1 if quick)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON at the end")


def run(args: argparse.Namespace) -> int:
    """Run the demo and say what to type next."""
    import shutil
    import sys
    import time
    import warnings

    from coembed import CoembedWarning
    from coembed.cli import output
    from coembed.demo import data, report, search, table
    from coembed.demo.run import run, say
    from coembed.demo.verdicts import unmeasured, verdicts
    from coembed.features import FeatureStore

    began, out = time.monotonic(), args.out
    count = args.seeds if args.seeds is not None else (1 if args.quick or args.from_scratch else 3)
    if count < 1:
        raise ValueError(f"--seeds {count}: at least 1")
    out.mkdir(parents=True, exist_ok=True)
    seeds = list(range(count))
    # That functions are cut is this demo's choice, said once at its start.
    warnings.filterwarnings("ignore", ".* were cut", CoembedWarning)
    done = run(out, seeds=seeds, quick=args.quick, from_scratch=args.from_scratch)

    say("\nIndexes of every tower, and the report:")
    ended, store = time.monotonic(), FeatureStore()
    library = search.save(done.space, done.splits, out, store)
    queries = search.ask(done.space, library, done.splits)
    parts, lines = table.parts(done.rows, data.HARDER), verdicts(done.rows)
    missing = unmeasured(data.strangers(done.splits))
    page = report.Page(
        parts,
        [*missing, *lines],
        queries,
        search.everywhere(done.space, library),
        done.history.rows,
        [", ".join(" + ".join(pair) for pair in split.pairs) for split in done.splits],
        search.heat(done.space, done.splits, store),
    )
    report.write(out / "report.html", page)
    say(f"Indexes and report: {time.monotonic() - ended:.0f} s")

    say(f"\nHeld-out figures, {count} {'seed' if count == 1 else 'seeds'}; {table.NOTE}:")
    for title, rows in parts.items():
        if rows:
            output.table(table.HEAD, [table.cells(row) for row in rows], title)
    for line in [*missing, *lines]:
        say(line)
    say("\nSome queries:")
    for query in queries:
        say(f"  {query.direction}: {_short(query.asked)}")
        for hit in query.found[:3]:
            say(f"      {hit.score:.3f}  {_short(hit)}")
    space, seconds = out / "space", time.monotonic() - began
    say(f"\n{seconds:.0f} s. The report: {out / 'report.html'}. Now try:")
    program = "coembed" if shutil.which("coembed") else sys.argv[0]  # `make demo` activates nothing
    say(f"  {program} search {space} --from text --to image 'a slice of pizza'")
    say(f"  {program} search {space} --from image --to text {out / 'drawn-heart.png'}")
    say(f"  {program} search {space} --from text --to audio 'a deep bass'")
    say(f"  {program} search {space} --from text --to code 'copy a file'")
    say(f"  {program} serve {space} --media {out}")
    if args.json:
        pairs = [list(pair) for pair in data.strangers(done.splits)]
        plain = [row.to_json() for row in done.rows]
        output.emit({"seconds": seconds, "seeds": seeds, "rows": plain, "no_honest_pair": pairs})
    return 0


def _short(shown: Shown, most: int = 70) -> str:
    """An item on one line: what it is, where letters say more than a picture."""
    if shown.kind in ("image", "audio", "graph"):
        name = {"image": "picture", "audio": "sound", "graph": "syntax tree"}[shown.kind]
        text = f"[{name}] {shown.caption}"
    elif shown.kind in ("dna", "protein"):
        text = f"{shown.item[:24]}… {shown.caption}"
    else:
        text = f"{shown.caption}: {shown.item}" if shown.caption else str(shown.item)
    return " ".join(text.split())[:most]
