"""Functions of any language that tree-sitter has a grammar for, by one walk over its syntax tree."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from coembed_code.files import CodeError
from coembed_code.functions import Function
from coembed_code.languages import Language
from coembed_code.python import move_left

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

__all__ = ["comment_text", "parsed_functions"]

_ARGUMENTS = re.compile(r"<[^<>]*>")
_SCOPE = re.compile(r"\s*::\s*")
_OPERATOR = re.compile(r"\boperator\b")
_OPENERS = ("/**", "/*!", "/*", "///", "//!", "//", "##", "#")


@functools.cache
def _parser(module: str, factory: str) -> Parser:
    try:
        import tree_sitter

        grammar = importlib.import_module(module)
    except ImportError as error:
        raise CodeError(
            f"{module.removeprefix('tree_sitter_')} is read through tree-sitter, which is not installed ({error}); "
            "run pip install 'coembed-code[languages]'"
        ) from error
    return tree_sitter.Parser(tree_sitter.Language(getattr(grammar, factory)()))


def parsed_functions(text: str, language: Language) -> list[Function]:
    """The functions of a text, in the order in which they begin.

    Errors are no reason to stop: what a macro stands for is one to any grammar, so the functions that could be made
    out are given. Raises CodeError if the grammar is not installed.
    """
    data = text.encode("utf-8", "replace")
    root = _parser(language.module, language.factory).parse(data).root_node
    comments: dict[int, tuple[int, str]] = {}  # last line of a comment: its first line and its text
    found: list[Function] = []
    for node, path in _walk(root, language):
        if "comment" in node.type:
            if _begins_line(node, data):  # a comment of its own, not one after code
                comments[_last_row(node)] = (node.start_point.row, _text(node))
        else:
            found.append(_function(node, path, data, comments, language))
    return sorted(found, key=lambda function: (function.start, -function.end))


def _walk(root: Node, language: Language) -> Iterator[tuple[Node, str]]:
    """Comments and named function definitions in source order, each with the dotted path of what encloses it."""
    stack: list[tuple[Node, str]] = [(root, "")]
    while stack:  # not recursion: syntax trees are deeper than Python's stack
        node, prefix = stack.pop()
        inner = prefix
        if "comment" in node.type:
            yield node, ""
            continue
        if node.is_named:
            own = _own_name(node, language)
            if own:
                yield node, prefix + own
            holder = language.containers.get(node.type)
            around = own or (_plain(_text(node.child_by_field_name(holder))) if holder else "")
            inner = f"{prefix}{around}." if around else prefix
        stack.extend((child, inner) for child in reversed(node.children))


def _own_name(node: Node, language: Language) -> str:
    """The name of a function definition; "" for any other node and for functions without a name."""
    if node.type in language.values:
        return _assigned_name(node)
    if node.type not in language.functions or not (language.bare or node.child_by_field_name("body")):
        return ""
    receiver = node.child_by_field_name("receiver")  # Go names the type of a method there
    owner = next((_text(n) for n in _descend(receiver) if n.type == "type_identifier"), "") if receiver else ""
    named = node.child_by_field_name("name")
    name = _plain(_text(named)) if named else _declared(node)
    return f"{owner}.{name}" if owner else name


def _assigned_name(node: Node) -> str:
    """The name that a function expression gets from the declaration, field or assignment around it."""
    parent = node.parent
    if parent is None:
        return ""
    if parent.type == "export_statement":
        return "default"
    for key in ("name", "key", "property", "left"):
        holder = parent.child_by_field_name(key)
        if holder is not None and holder.id != node.id:
            return _text(holder).lstrip("$").strip("'\"")
    return ""


def _declared(node: Node) -> str:
    """The name inside C's declarators: `int (*f(int x))(int)` declares `f`.

    "" where no function is declared, as in `API struct s {…};`, which a macro makes look like a definition.
    """
    at, function = node.child_by_field_name("declarator"), False
    while at is not None:
        if at.type == "operator_cast":  # C++: operator bool() const
            return _plain(_text(at).partition("(")[0])
        function = function or at.type == "function_declarator"
        inner = at.child_by_field_name("declarator")
        if inner is None and at.type in ("parenthesized_declarator", "reference_declarator", "attributed_declarator"):
            inner = next((child for child in at.named_children if child.type.endswith("declarator")), None)
            inner = inner or next(iter(at.named_children), None)
        if inner is None:
            return _plain(_text(at)) if function else ""
        at = inner
    return ""


def _function(node: Node, path: str, data: bytes, comments: dict[int, tuple[int, str]], language: Language) -> Function:
    outer = node
    while outer.parent is not None and outer.parent.type in language.wrappers and _alone(outer.parent, language):
        outer = outer.parent
    first = outer
    while first.prev_named_sibling is not None and first.prev_named_sibling.type in language.markers:
        first = first.prev_named_sibling
    row, at, above = first.start_point.row, first.start_byte, list[str]()
    if _begins_line(first, data):
        at -= first.start_point.column
        line = row - 1
        while line in comments:
            above.append(comments[line][1])
            line = comments[line][0] - 1
    code = move_left(data[at : outer.end_byte].decode("utf-8", "replace").rstrip().split("\n"))
    docstring = comment_text("\n".join(reversed(above)))
    return Function(path.rpartition(".")[2], path, code, docstring, row + 1, _last_row(outer) + 1)


def _alone(wrapper: Node, language: Language) -> bool:
    """Whether a declaration declares one thing: `const f = () => 1, g = 2` is not the text of `f`."""
    return sum(child.type == "variable_declarator" for child in wrapper.named_children) <= 1


def comment_text(comment: str) -> str:
    """What a comment says, without its marks.

    >>> comment_text("/**\\n * Adds.\\n * @return the sum\\n */")
    'Adds.\\n@return the sum'
    """
    kept: list[str] = []
    for line in comment.split("\n"):
        line = line.strip()
        opener = next((mark for mark in _OPENERS if line.startswith(mark)), "")
        line = line.removeprefix(opener).removesuffix("*/") if opener else line.removesuffix("*/").removeprefix("*")
        kept.append(line.strip())
    return "\n".join(kept).strip()


def _plain(name: str) -> str:
    """A name without type arguments, its parts joined by dots; of what a macro glued before it, nothing."""
    operator = _OPERATOR.search(name)  # whose "<" is its name
    scope, last = (name[: operator.start()], " ".join(name[operator.start() :].split())) if operator else (name, "")
    count = 1
    while count:  # the innermost <…> first
        scope, count = _ARGUMENTS.subn("", scope)
    words = _SCOPE.sub(".", scope).split() or [""]
    if operator and not words[-1].endswith("."):
        return last
    return (words[-1] + last).strip(".[]")  # brackets: a computed name of JavaScript


def _text(node: Node | None) -> str:
    return "" if node is None or node.text is None else node.text.decode("utf-8", "replace")


def _descend(node: Node) -> Iterator[Node]:
    stack = [node]
    while stack:
        at = stack.pop()
        yield at
        stack.extend(reversed(at.named_children))


def _begins_line(node: Node, data: bytes) -> bool:
    return not data[node.start_byte - node.start_point.column : node.start_byte].strip()


def _last_row(node: Node) -> int:
    """The last line of a node; some grammars count the line end in, and so name the next line."""
    end = node.end_point
    return end.row - 1 if end.column == 0 and end.row > node.start_point.row else end.row
