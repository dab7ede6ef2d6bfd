"""Pages of the docs as programs: their fenced blocks run in order, and what they print is compared with the page."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# file: (\S+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page where it begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(match[1], match[2], text.count("\n", 0, match.start()) + 1) for match in FENCE.finditer(text)]


def play(page: Path, folder: Path, shell: Callable[[str], str], python: Callable[[str], str]) -> None:
    """Run a page in a folder.

    `console`: lines that begin with `$ ` are commands, the others what they print. `python`: a program, or a file to
    write if it begins with `# file: PATH`; a `text` block right after it is what it prints. Lines of the page must come
    in this order among those that are printed, with `…` for anything.
    """
    printed = ""
    for block in blocks(page):
        where = f"{page.name}, line {block.line}"
        if block.language == "console":
            for command, expected in session(block.text):
                compare(expected, shell(command), f"{where}: {command}")
        elif block.language == "python" and (match := FILE.match(block.text)):
            path = folder / match[1]
            assert path.parent.is_dir(), f"{where}: {path.parent} is not there"
            path.write_text(block.text[match.end() :], encoding="utf-8")
        elif block.language == "python":
            printed = python(block.text)
        elif block.language == "text":
            compare(block.text, printed, where)


def session(text: str) -> list[tuple[str, str]]:
    """Commands and what each prints."""
    parts = re.split(r"^\$ ((?:.*\\\n)*.*\n)", text, flags=re.MULTILINE)
    assert not parts[0].strip(), f"a console block begins with a command, not {parts[0]!r}"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def compare(expected: str, printed: str, where: str) -> None:
    """Every expected line must be among the printed ones, in order; how wide a space is does not matter."""
    rest = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in filter(None, (" ".join(line.split()) for line in expected.splitlines())):
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        assert any(re.fullmatch(pattern, other) for other in rest), f"{where}: no {line!r} in\n{printed}"


def play_python(page: Path, folder: Path) -> None:
    """Play a page that has Python blocks only: one after the other, each with the names of those before it."""
    names: dict[str, Any] = {}

    def python(text: str) -> str:
        path = folder / "block.py"
        path.write_text(text, encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            names.update(runpy.run_path(str(path), init_globals=names))
        return out.getvalue()

    play(page, folder, shell=lambda command: pytest.fail(f"no command is expected: {command}"), python=python)
