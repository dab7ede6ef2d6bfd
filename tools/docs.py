"""Write the generated pages of docs/, or with --check fail if one is stale.

methods.md comes from methods.yaml, recipes.md from recipes.yaml and the measured recipes.json, hooks.md from
coembed.hookspecs, cli.md from the commands' own parsers, and components.md from the specs that the packages of this
repository register.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from coembed_bench.recipe import layout

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
STATES = ("open", "partial", "done", "reconstruction")
KINDS = ("encoder", "aligner", "objective", "pretext", "source", "index", "eval", "tool", "recipe")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars and line breaks inside cells are made safe."""
    lines = [[" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Text in backticks, or nothing for nothing."""
    return f"`{text}`" if text else ""


def methods() -> list[dict[str, Any]]:
    """The entries of methods.yaml, in its order."""
    entries: list[dict[str, Any]] = yaml.safe_load((DOCS / "methods.yaml").read_text(encoding="utf-8"))
    return entries


def names(component: str | list[str] | None) -> list[str]:
    """The component or the recipe field as a list: it holds one name, several, or none."""
    return [component] if isinstance(component, str) else list(component or [])


def methods_page() -> str:
    """docs/methods.md."""
    entries = methods()
    count = Counter(entry["state"] for entry in entries)
    rows = [
        (
            f"**{entry['title']}** ({entry['year']}), "
            + re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", entry["reference"]),
            entry["mechanism"],
            entry["kind"],
            ", ".join(map(code, names(entry["component"]))),
            ", ".join(f"[{Path(path).name}](../{path})" for path in names(entry["recipe"])),
            entry["state"],
        )
        for entry in entries
    ]
    return f"""# Published methods

{len(entries)} methods: {", ".join(f"{count[state]} {state}" for state in STATES if count[state])}.

Each method lives where its mechanism belongs, and its recipe shows it on real small data, with it and without.
*Open*: nothing yet. *Partial*: parts work. *Done*: there is a recipe with a verdict. *Reconstruction*: done, but a
formula could not be found and ours stands in for it.

{table(["method", "mechanism", "kind", "component", "recipe", "state"], rows)}
"""


def hooks_page() -> str:
    """docs/hooks.md."""
    module = importlib.import_module("coembed.hookspecs")
    found = [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]
    parts = ["# Hooks", inspect.getdoc(module) or ""]
    for hook in sorted(found, key=lambda f: f.__code__.co_firstlineno):
        prose, _, example = (inspect.getdoc(hook) or "").partition(">>> ")
        signature = str(inspect.signature(hook)).replace("'", "")
        parts += [f"## `{hook.__name__}`", f"```python\ndef {hook.__name__}{signature}\n```", prose.strip()]
        if example:
            lines = (">>> " + example).splitlines()
            parts.append("```python\n" + "\n".join(re.sub(r"^(>>>|\.\.\.) ?", "", line) for line in lines) + "\n```")
    return "\n\n".join(parts) + "\n"


def invocation(action: argparse.Action) -> str:
    """How an argument is typed. Our own words, since argparse's differ from one Python to the next."""
    metavar = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    value = metavar if isinstance(metavar, str) else " ".join(metavar)
    value = {"*": f"[{value} ...]", "+": f"{value} ...", "?": f"[{value}]"}.get(str(action.nargs), value)
    flags = ", ".join(action.option_strings)
    return value if not flags else flags if action.nargs == 0 else f"{flags} {value}"


def arguments(parser: argparse.ArgumentParser, known: Iterable[str] = ()) -> str:
    """The arguments of a parser as a table, without its --help and what is known already."""
    rows = []
    for action in parser._actions:
        if action.dest in ("help", *known) or action.help == argparse.SUPPRESS:
            continue
        help_ = (action.help or "") % {**vars(action), "prog": parser.prog}
        needed = " (required)" if action.required and action.option_strings else ""
        rows.append((code(invocation(action)), help_ + needed))
    return table(["argument", "meaning"], rows) if rows else ""


def cli_page() -> str:
    """docs/cli.md."""
    cli = importlib.import_module("coembed.cli")
    top = cli.parser()
    known = [action.dest for action in top._actions]
    parts = [
        "# Commands",
        inspect.getdoc(cli),
        table(["command", "what it does"], _listing(cli.COMMANDS)),
        arguments(top, ["command"]),
    ]
    for name in cli.COMMANDS:
        parser = cli.command_parser(name)
        parts += [f"## coembed {name}", parser.description, arguments(parser, known), parser.epilog]
    return "\n\n".join(part for part in parts if part) + "\n"


def _listing(commands: dict[str, tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"[`coembed {name}`](#coembed-{name})", line) for name, (_, line) in commands.items()]


def packages() -> set[str]:
    """The distributions of this repository: what else is installed must not show in its docs."""
    files = [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]
    return {tomllib.loads(file.read_text(encoding="utf-8"))["project"]["name"] for file in files}


def components_page() -> str:
    """docs/components.md; a plugin of this repository that is missing or fails to load is an error."""
    plugins = importlib.import_module("coembed.plugins").plugins()
    ours, rows = packages(), []
    loaded = [plugin for name, plugin in plugins.installed().items() if plugin.package in ours and plugins.plugin(name)]
    for plugin in sorted(loaded, key=lambda plugin: (plugin.package != "coembed", plugin.name)):
        if plugin.error is not None:
            raise SystemExit(f"docs: plugin {plugin.name} ({plugin.package}) does not load: {plugin.error}")
        for kind, spec in plugin:
            modality = getattr(spec, "modality", "")
            width = str(getattr(spec, "dim", "") or "any") if kind == "encoder" else ""
            rows.append((code(spec.name), kind, plugin.package, modality, width, spec.license, spec.summary))
    head = ["name", "kind", "package", "modality", "dim", "licence", "what it is"]
    return f"""# Components

What core and the plugins of this repository register. `coembed info NAME` says more of one; *any* dim is known once
the encoder is built.

{table(head, rows)}
"""


def recipes_page() -> str:
    """docs/recipes.md."""
    entries = yaml.safe_load((DOCS / "recipes.yaml").read_text(encoding="utf-8"))
    figures = json.loads((DOCS / "recipes.json").read_text(encoding="utf-8"))
    titles = {Path(path).stem: entry["title"] for entry in methods() for path in names(entry["recipe"])}
    parts = [
        "# Recipes: when to use what",
        """Each recipe runs a published method with its mechanism and without, with the control that its idea calls for,
on small real data, three seeds, equal steps for arms that are compared. The tables are what the scripts printed
(`python tools/recipes.py`): the mean of the seeds, the least and the most. A claim *shows* if it holds in every seed
and by more on average than the seeds' differences scatter; a claim that does not show is printed as it is. Small data
on a CPU: read them as what happened here, not as what the method does at its own scale. `coembed-bench recipes` runs
them all.""",
        table(
            ["need", "recipe", "claims that show"],
            [(e["need"], f"[{e['name']}](#{e['name']})", _shown(figures.get(e["name"]))) for e in entries],
        ),
    ]
    for entry in entries:
        name, found = entry["name"], figures.get(entry["name"])
        link = f"[examples/recipes/{name}.py](../examples/recipes/{name}.py)"
        parts += [f"## {name}", f"{titles.get(name, name)}. {link}", entry["use"].strip()]
        if found is not None:
            parts += [_arms(found), "\n".join(_claim(claim) for claim in found["claims"])]
    return "\n\n".join(parts) + "\n"


def _shown(found: dict[str, Any] | None) -> str:
    if found is None:
        return "see there"
    return f"{sum(claim['shows'] is True for claim in found['claims'])} of {len(found['claims'])}"


def _arms(found: dict[str, Any]) -> str:
    head, *rows = layout(list(found["runs"].values()), _cell)
    return table(head, rows)


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "not finite"
    return f"{sum(known) / len(known):.3g} ({min(known):.3g} to {max(known):.3g})"


def _claim(claim: dict[str, Any]) -> str:
    found = ", ".join("not finite" if d is None else f"{d:+.3g}" for d in claim["differences"])
    verdict = {True: "shows", False: "**does not show**", None: "no verdict"}[claim["shows"]]
    return f"- {claim['says']}: {verdict} ({claim['metric']}, {claim['better']} over {claim['than']}: {found})"


PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "methods.md": ("docs/methods.yaml", methods_page),
    "recipes.md": ("docs/recipes.yaml and docs/recipes.json", recipes_page),
    "hooks.md": ("core/coembed/hookspecs.py", hooks_page),
    "cli.md": ("core/coembed/cli", cli_page),
    "components.md": ("the registered specs", components_page),
}


def render(name: str) -> str:
    """One page as it should stand in docs/."""
    origin, build = PAGES[name]
    return f"<!-- Made from {origin} by `make docs`: edit that, not this. -->\n{build()}"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages, or check them; exit code 1 if a checked page is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale, showing how")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"of {', '.join(PAGES)} (default: all)")
    args = parser.parse_args(argv)
    if unknown := set(args.pages) - set(PAGES):
        parser.error(f"unknown page {', '.join(sorted(unknown))}; known: {', '.join(PAGES)}")
    stale = 0
    for name in args.pages or PAGES:
        path, text = DOCS / name, render(name)
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == text:
            continue
        stale += 1
        if args.check:
            diff = list(difflib.unified_diff(old.splitlines(), text.splitlines(), "docs", "generated", lineterm=""))
            print(*diff[:20], sep="\n")
            print(f"docs/{name} is stale: run `make docs`", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/{name}")
    return int(args.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
