"""coembed info: everything about one component."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from coembed.cli import flags

if TYPE_CHECKING:
    import inspect


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("name", metavar="NAME", help="a component, such as infonce or text/hf")
    flags.add_json(parser, "the same")


def run(args: argparse.Namespace) -> int:
    """Show the spec, its package and what its class says of itself."""
    from coembed.cli import output
    from coembed.plugins import plugins

    plugin, kind, spec = plugins().find(args.name)
    facts: dict[str, Any] = {
        "name": spec.name,
        "kind": kind,
        "package": plugin.package,
        "version": plugin.version,
        "plugin": plugin.name,
        **spec.to_json(),
        **described(spec.target),
    }
    if args.json:
        output.emit(facts)
        return 0
    for key, value in facts.items():
        if value not in (None, "", [], {}) and key != "problem":
            print(f"{key:12} {_shown(value)}")
    if facts["problem"]:
        extra = f"; it needs pip install '{plugin.package}[{spec.extra}]'" if spec.extra else ""
        output.note(f"{args.name} can't be built here: {facts['problem']}{extra}")
    return 0


def described(target: str) -> dict[str, Any]:
    """The first line of the class's docstring and its arguments, or why it can't be imported."""
    import inspect

    from coembed.plugins import diagnose
    from coembed.spec import resolve

    try:
        found = resolve(target)
    except (Exception, SystemExit) as error:  # a stranger's module
        return {"doc": "", "arguments": [], "problem": diagnose(error)}
    try:
        parameters = [p for p in inspect.signature(found).parameters.values() if p.name != "spec"]
    except (TypeError, ValueError):
        parameters = []
    doc = (inspect.getdoc(found) or "").strip()
    doc = doc.split("\n\n")[0].replace("\n", " ")
    return {"doc": doc, "arguments": [_argument(p) for p in parameters], "problem": None}


def _argument(parameter: inspect.Parameter) -> str:
    """`name: type = default`; annotations are strings, and print with quotes otherwise."""
    kind = parameter.annotation
    text = "" if kind is parameter.empty else f": {kind if isinstance(kind, str) else getattr(kind, '__name__', kind)}"
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}{text}{default}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={inner!r}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
