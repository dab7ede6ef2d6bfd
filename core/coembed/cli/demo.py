"""coembed demo: the main job on real data."""

from __future__ import annotations

import argparse
from pathlib import Path


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
    import warnings

    from coembed import CoembedWarning
    from coembed.cli import output
    from coembed.demo import report, search
    from coembed.demo.data import emoji
    from coembed.demo.run import run, say
    from coembed.demo.table import HEAD, cells, verdicts
    from coembed.features import FeatureStore

    out: Path = args.out
    count = args.seeds if args.seeds is not None else (1 if args.quick or args.from_scratch else 3)
    if count < 1:
        raise ValueError(f"--seeds {count}: at least 1")
    out.mkdir(parents=True, exist_ok=True)
    seeds = list(range(count))
    # That functions are cut is this demo's choice, said once at its start.
    warnings.filterwarnings("ignore", ".* were cut", CoembedWarning)
    done = run(out, seeds=seeds, quick=args.quick, from_scratch=args.from_scratch)
    store = FeatureStore()
    indexes = search.save(done.space, out, store)
    queries = search.ask(done.space, indexes, out)
    lines = verdicts(done.rows)
    heat = search.heat(done.space, emoji("base", 0, args.quick), store)
    report.write(out / "report.html", done.rows, lines, queries, done.history.losses, heat)

    say(f"\nHeld-out figures, {count} {'seed' if count == 1 else 'seeds'}; the last three columns are R@10 / MRR:")
    output.table(HEAD, [cells(row) for row in done.rows])
    for line in lines:
        say(line)
    say("\nSome queries:")
    for direction, asked, found in queries:
        say(f"  {direction}: {_short(asked)}")
        for hit in found[:3]:
            say(f"      {hit.score:.3f}  {_short(hit)}")
    space = out / "space"
    say(f"\n{done.seconds:.0f} s. The report: {out / 'report.html'}. Now try:")
    program = "coembed" if shutil.which("coembed") else sys.argv[0]  # `make demo` activates nothing
    say(f"  {program} search {space} --from text --to image 'a slice of pizza'")
    say(f"  {program} search {space} --from image --to text {out / 'drawn-heart.png'}")
    say(f"  {program} search {space} --from text --to code 'copy a file'")
    if args.json:
        output.emit({"seconds": done.seconds, "seeds": seeds, "rows": [row.to_json() for row in done.rows]})
    return 0


def _short(shown: object, most: int = 70) -> str:
    from coembed.demo.report import Shown

    assert isinstance(shown, Shown)
    if shown.kind == "image":
        return f"[picture] {shown.caption}"
    text = f"{shown.caption}: {shown.item}" if shown.caption else str(shown.item)
    return " ".join(text.split())[:most]
