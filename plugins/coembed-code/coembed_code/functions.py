"""Source code to functions: what a code encoder takes as items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coembed_code.files import CodeError, read_text
from coembed_code.languages import LANGUAGES, SUFFIXES

__all__ = ["CodeError", "Function", "functions", "items", "language_of"]


@dataclass(frozen=True)
class Function:
    """One function of a source file.

    `qualname` is the dotted path of the classes, namespaces and functions around it; `code` is the whole definition
    with decorators, moved to the left margin; `docstring` is the text of its documentation, "" if there is none;
    `start` and `end` are lines, counted from 1, both included.
    """

    name: str
    qualname: str
    code: str
    docstring: str
    start: int
    end: int


def language_of(path: str | Path) -> str | None:
    """The language that a file's ending stands for, or None.

    >>> language_of("a/b.rs"), language_of("notes.txt")
    ('rust', None)
    """
    return SUFFIXES.get(Path(path).suffix.lower())


def functions(source: str | Path, language: str | None = None) -> list[Function]:
    """The functions and methods of a file (a `Path`) or of a text (a `str`), in the order in which they begin.

    A text needs its `language`; a file's ending says it. Functions inside functions come by themselves too. Python is
    read by `ast` and its docstrings are as `inspect.cleandoc` gives them; other languages are read by tree-sitter,
    which goes on after errors, and their docstring is the comment right above. Raises CodeError for a language that is
    not known or not installed, a file that can't be read, and Python that can't be parsed, naming file and line.

    >>> [found] = functions("def add(a, b):\\n    'Adds.'\\n    return a + b", "python")
    >>> found.qualname, found.docstring, found.start, found.end
    ('add', 'Adds.', 1, 3)
    """
    if language is None:
        if not isinstance(source, Path):
            raise CodeError("functions() of a text needs language=..., such as 'python'; a file is given as a Path")
        language = language_of(source)
        if language is None:
            raise CodeError(
                f"{source}: no language known for files that end in {source.suffix!r}; name it: language=..."
            )
    if language not in LANGUAGES and language != "python":
        raise CodeError(f"language {language!r} is unknown; known: python, {', '.join(LANGUAGES)}")
    name = str(source) if isinstance(source, Path) else f"<{language} text>"
    text = read_text(source, python=language == "python") if isinstance(source, Path) else source
    if language == "python":
        from coembed_code.python import python_functions

        return python_functions(text, name)
    from coembed_code.syntax import parsed_functions

    return parsed_functions(text, LANGUAGES[language])


def items(path: str | Path) -> list[str]:
    """The code of every function of a file, or the whole file where it has none or its language is not known.

    Raises CodeError as `functions` does.
    """
    path = Path(path)
    if language_of(path) is None:
        return [read_text(path)]
    return [function.code for function in functions(path)] or [read_text(path, python=language_of(path) == "python")]
