"""`samples/stdlib`: docstrings and functions of the running Python's standard library."""

from __future__ import annotations

import re
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from coembed.sources import Record, Source
from coembed_samples.functions import Function, functions
from coembed_samples.trees import syntax_graph

Name = Literal["kept", "hidden"]

# Tests, and what a distribution or a user puts beside the library.
SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
TOWERS = ("text", "code", "graph")
MIN_WORDS = 3
MIN_LINES = 3


class Pair(NamedTuple):
    """One documented function of a module."""

    module: str
    summary: str
    function: Function


class Stdlib(Source):
    """Functions of the standard library as pairs of a text (first paragraph of the docstring) and code without it.

    Nothing is carried: the library that runs is parsed, some seconds once a process, so pairs depend on the version of
    Python. A pair needs three words of text and three lines of code in the body; a paragraph that came before is left
    out. 3,962 pairs remain in a full Python 3.11, 3,683 in 3.13, 3,380 in Debian's 3.11, which packages parts apart.
    Code is the source as written, decorators and comments included, dedented, and without any docstring, those of
    functions inside it too. `id` is `module:qualname`, `group` the top-level module.

    `name="hidden"` puts `f` (`func` where the code has an `f`) in place of the function's own name wherever it stands
    as a whole word: in its `def`, in recursive calls, in comments and messages. The text stays as it is, for the name
    in it no longer gives the answer away. Names that merely contain it (`_name`) stay too.

    `towers` says what records hold: "text" and "code" unless told otherwise, and "graph", the syntax tree of that code
    (of the hidden one, if the name is hidden) as node-link JSON, see `coembed_samples.trees`.

    Raises ValueError for another `name` or unknown `towers`, and FileNotFoundError where Python runs without its
    library's source.

    >>> source = Stdlib(name="hidden")
    >>> source.towers
    ('text', 'code')
    """

    def __init__(self, name: Name = "kept", towers: Sequence[str] = ("text", "code")) -> None:
        if name not in get_args(Name):
            raise ValueError(f"name {name!r} is neither 'kept' nor 'hidden'")
        if isinstance(towers, str) or not towers or not set(towers) <= set(TOWERS) or len(set(towers)) < len(towers):
            raise ValueError(f"towers {towers!r}: give one or more of {', '.join(TOWERS)}, each once, as a list")
        self.name = name
        self._towers = tuple(towers)

    @property
    def towers(self) -> tuple[str, ...]:
        """The towers of every record.

        >>> Stdlib().towers
        ('text', 'code')
        """
        return self._towers

    def __len__(self) -> int:
        return len(_pairs())

    def __iter__(self) -> Iterator[Record]:
        ids: dict[str, int] = {}
        for module, summary, function in _pairs():
            key = f"{module}:{function.qualname}"
            # A name may be defined twice, as by a property's getter and setter.
            ids[key] = ids.get(key, 0) + 1
            code = function.code if self.name == "kept" else hide(function.name, function.code)
            yield Record(
                {tower: _item(tower, summary, code) for tower in self._towers},
                id=key if ids[key] == 1 else f"{key}#{ids[key]}",
                group=module.partition(".")[0],
            )


def _item(tower: str, summary: str, code: str) -> Any:
    if tower == "graph":
        return syntax_graph(code)
    return summary if tower == "text" else code


def hide(name: str, code: str) -> str:
    """The code with `f` in place of a name, as a whole word; `func` where `f` is taken.

    >>> hide("area", "def area(r):\\n    return area(r - 1)")
    'def f(r):\\n    return f(r - 1)'
    """
    # `f"..."` is a prefix, not a name.
    neutral = "func" if re.search(r"\bf\b(?![\"'])", code) else "f"
    # A function named like a string prefix must not take the prefixes with it.
    end = r"(?![\"'])" if name.lower() in {"f", "b", "r", "u", "br", "rb", "fr", "rf", "t", "rt", "tr"} else ""
    return re.sub(rf"\b{re.escape(name)}\b{end}", neutral, code)


def modules() -> Iterator[tuple[str, Path]]:
    """Name and file of every module of the standard library that is written in Python, in order of names.

    >>> "email.message" in dict(modules())
    True
    """
    library = Path(sysconfig.get_path("stdlib"))
    found: list[tuple[str, Path]] = []
    for path in library.rglob("*.py"):
        parts = path.relative_to(library).with_suffix("").parts
        if SKIPPED.isdisjoint(parts) and parts[0] in sys.stdlib_module_names and all(p.isidentifier() for p in parts):
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    if not found:
        raise FileNotFoundError(f"no source of the standard library under {library}: install it, or another Python")
    return iter(sorted(found))


@lru_cache(maxsize=1)
def _pairs() -> tuple[Pair, ...]:
    pairs: list[Pair] = []
    seen: set[str] = set()
    for module, path in modules():
        with tokenize.open(path) as file:  # a module may declare its own encoding
            source = file.read()
        for function in functions(source):
            summary = " ".join(function.docstring.split("\n\n")[0].split())
            if len(summary.split()) >= MIN_WORDS and function.lines >= MIN_LINES and summary not in seen:
                seen.add(summary)
                pairs.append(Pair(module, summary, function))
    return tuple(pairs)
