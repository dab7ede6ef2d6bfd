"""Write the marked blocks of README.md anew, or with --check fail if one that comes from the code is stale.

The plugins and the commands come from the code; what `make demo` and `make test` print comes from a saved run:

    make demo 2>&1 | tee demo.log; .venv/bin/python tools/readme.py --demo demo.log
    make test 2>&1 | tee test.log; .venv/bin/python tools/readme.py --tests test.log
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

from docs import table

from coembed.cli import parser

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def plugins() -> str:
    """A row for each distribution of plugins/, by its own description."""
    rows = []
    for file in sorted(ROOT.glob("plugins/*/pyproject.toml")):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        name, what = project["name"], project["description"].replace(" for coembed", "").replace(" of coembed", "")
        rows.append((f"[{name}](plugins/{name}/README.md)", what))
    return table(["package", "what it brings"], rows)


def commands() -> str:
    """What `coembed --help` prints."""
    return f"```text\n{parser().format_help().rstrip()}\n```"


def demo(log: str) -> str:
    """The end of a full run: figures of the main splits, what they reach, one query a direction, what to type next.

    Raises ValueError if the run did not end.
    """
    last = log.rfind("coembed serve")
    if "Held-out figures" not in log or last < 0:
        raise ValueError("the log is not of a demo that ended")
    text = log[log.index("Held-out figures") : log.index("\n", last)]
    figures, rest = re.split(r"^The same, harder", text, maxsplit=1, flags=re.MULTILINE)
    reached = re.findall(r"^(?:NOT )?reached:.* directions beat .*$", rest, flags=re.MULTILINE)
    queries, after = rest.split("Some queries:\n")[1].split("\n\n")
    found: dict[str, str] = {}  # the first of each direction
    for query in re.split(r"^(?=  \S)", queries, flags=re.MULTILINE):
        found.setdefault(query.partition(":")[0], "\n".join(query.splitlines()[:2]))
    parts = [figures.rstrip(), "…", *reached, "…", "Some queries:", *filter(None, found.values()), "…", after]
    return "```text\n" + "\n".join(line.rstrip() for part in parts for line in part.splitlines()) + "\n```"


def tests(log: str) -> str:
    """The last line of a test run that passed. Raises ValueError if it did not."""
    lines = [line.strip(" =") for line in log.splitlines() if re.search(r"\d+ passed", line)]
    if not lines or re.search(r"failed|error", lines[-1]):
        raise ValueError("the log is not of a test run that passed")
    return f"```text\n{lines[-1]}\n```"


def replace(page: str, name: str, block: str) -> str:
    """The page with another text between the marks of a block."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, rest = page.split(start)
    return f"{before}{start}\n{block}\n{end}{rest.split(end)[1]}"


def main() -> int:
    """Write README.md, or compare."""
    flags = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    flags.add_argument("--check", action="store_true", help="exit code 1 if a block that comes from the code is stale")
    flags.add_argument("--demo", type=Path, help="what `make demo` printed")
    flags.add_argument("--tests", type=Path, help="what `make test` printed")
    args = flags.parse_args()
    page = README.read_text(encoding="utf-8")
    fresh = replace(replace(page, "plugins", plugins()), "help", commands())
    for name, path, cut in (("demo", args.demo, demo), ("tests", args.tests, tests)):
        if path is not None:
            fresh = replace(fresh, name, cut(path.read_text(encoding="utf-8")))
    if args.check:
        return int(fresh != page)
    README.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
