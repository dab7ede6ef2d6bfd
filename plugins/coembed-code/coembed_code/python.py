"""Python's functions, by the standard library's own parser."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from coembed_code.files import CodeError
from coembed_code.functions import Function

__all__ = ["python_functions"]

Definition = ast.FunctionDef | ast.AsyncFunctionDef


def python_functions(text: str, name: str) -> list[Function]:
    """The functions of Python source, in the order in which they begin; raises CodeError naming `name` and the line.

    Qualified names are those of Python itself: "Class.method", "outer.<locals>.inner".

    >>> [f.qualname for f in python_functions("class A:\\n  def f(self):\\n    def g(): pass", "a.py")]
    ['A.f', 'A.f.<locals>.g']
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as SyntaxWarning: "\d" in somebody's string is not our matter
            tree = ast.parse(text)
    except SyntaxError as error:
        raise CodeError(f"{name}, line {error.lineno}: not valid Python: {error.msg}") from error
    except (RecursionError, MemoryError) as error:
        raise CodeError(f"{name}: nested too deeply to be parsed") from error
    except ValueError as error:  # a zero byte, a lone surrogate
        raise CodeError(f"{name}: not valid Python: {error}") from error
    lines = text.split("\n")  # splitlines() would also split at form feeds, where Python does not
    found = [_function(node, qualname, lines) for node, qualname in _definitions(tree)]
    return sorted(found, key=lambda function: (function.start, -function.end))


def _definitions(tree: ast.Module) -> Iterator[tuple[Definition, str]]:
    """Every definition with its qualified name; a stack of our own, since generated code nests deeper than Python."""
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        parent, prefix = stack.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, Definition):
                yield node, prefix + node.name
                stack.append((node, f"{prefix}{node.name}.<locals>."))
            elif isinstance(node, ast.ClassDef):
                stack.append((node, f"{prefix}{node.name}."))
            else:
                stack.append((node, prefix))


def _function(node: Definition, qualname: str, lines: list[str]) -> Function:
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    end = node.end_lineno or node.lineno
    code = move_left(lines[start - 1 : end])
    docstring = (ast.get_docstring(node) or "").strip()  # cleandoc leaves spaces before the closing quotes
    return Function(node.name, qualname, code, docstring, start, end)


def move_left(lines: list[str]) -> str:
    """Lines without the indentation of the first; a line that is indented less (inside a string) stays as it is.

    >>> move_left(["    def f():", "        return 1"])
    'def f():\\n    return 1'
    """
    margin = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    return "\n".join(line.removeprefix(margin) for line in lines)
