"""Source files to functions: Python by ast, other languages by tree-sitter."""

from __future__ import annotations

import ast
import textwrap

import pytest

from coembed_code.functions import CodeError, functions, items, language_of

PYTHON = textwrap.dedent(
    '''
    """Module."""
    import functools

    @functools.cache
    @staticmethod
    def first(a, b=lambda: 0):
        """First.

            More.
        """
        def inner():
            return 1
        return inner

    class Outer:
        """Not a function."""
        class Inner:
            async def later(self):
                async with x:
                    pass

        if True:
            def hidden(self): return """
    left
    """
    match 1:
        case 1:
            def matched(): pass
    '''
).lstrip()


def test_python_names_lines_and_docstrings():
    found = functions(PYTHON, "python")
    assert [(f.name, f.qualname, f.start, f.end) for f in found] == [
        ("first", "first", 4, 13),
        ("inner", "first.<locals>.inner", 11, 12),
        ("later", "Outer.Inner.later", 18, 20),
        ("hidden", "Outer.hidden", 23, 25),
        ("matched", "matched", 28, 28),
    ]
    assert found[0].docstring == "First.\n\nMore."
    assert [f.docstring for f in found[1:]] == [""] * 4
    assert found[0].code.startswith("@functools.cache\n@staticmethod\ndef first")
    assert found[2].code == "async def later(self):\n    async with x:\n        pass"
    assert found[3].code == 'def hidden(self): return """\nleft\n"""'


def test_python_of_the_standard_library_is_cut_where_its_parser_says():
    import inspect
    import json.decoder
    import pathlib

    for module in (json.decoder, textwrap, pathlib):
        source = inspect.getsource(module)
        found = functions(source, "python")
        definitions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        assert len(found) == len(definitions) > 5
        for function in found:
            [node] = ast.parse(function.code).body
            assert node.name == function.name
            assert (ast.get_docstring(node) or "").strip() == function.docstring


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends_do_not_matter(ends):
    code = "x = '\x0c'\n\ndef f():\n    '''Doc\n    more'''\n    return 1\n"
    [found] = functions(code.replace("\n", ends), "python")
    assert (found.start, found.end, found.docstring) == (3, 6, "Doc\nmore")
    assert found.code == "def f():\n    '''Doc\n    more'''\n    return 1"


def test_python_syntax_errors_name_file_and_line(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    pass\ndef g(:\n")
    with pytest.raises(CodeError, match=r"bad\.py, line 3: not valid Python"):
        functions(path)
    for source in ("(" * 100_000, "-" * 200_000 + "1", "x = '\0'", "s = '\ud800'"):
        with pytest.raises(CodeError, match="<python text>"):
            functions(source, "python")


def test_warnings_of_the_parsed_code_are_not_ours(recwarn):
    functions(r"def f(): return '\d'", "python")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x7fELF\0\0", "binary"),
        ("x = 1".encode("utf-16"), "UTF-16"),
        (b"x = 'caf\xe9'\n", r"not valid utf-8 \(byte 8, line 1\)"),
        (b"", "empty"),
        (b"\n  \n", "empty"),
        (b"# coding: nonsense\nx = 1", "coding"),
    ],
)
def test_unreadable_files_are_named(tmp_path, data, message):
    path = tmp_path / "a.py"
    path.write_bytes(data)
    for read in (functions, items):
        with pytest.raises(CodeError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(CodeError, match=r"gone\.py.*No such file"):
        functions(tmp_path / "gone.py")
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(CodeError, match=r"folder\.py"):
        functions(tmp_path / "folder.py")


def test_encodings_that_python_declares(tmp_path):
    path = tmp_path / "a.py"
    path.write_bytes("# -*- coding: latin-1 -*-\ndef f(): return 'é'\n".encode("latin-1"))
    assert functions(path)[0].code == "def f(): return 'é'"
    path.write_bytes(b"\xef\xbb\xbfdef f(): pass\r\n")
    assert functions(path)[0].code == "def f(): pass"


def test_items_are_functions_or_the_whole_file(tmp_path):
    (tmp_path / "a.py").write_text("def f(): pass\n\ndef g(): pass\n")
    assert items(tmp_path / "a.py") == ["def f(): pass", "def g(): pass"]
    (tmp_path / "b.py").write_text("x = 1\n")
    assert items(tmp_path / "b.py") == ["x = 1\n"]
    (tmp_path / "c.sql").write_text("select 1")
    assert items(tmp_path / "c.sql") == ["select 1"]


def test_the_language_is_named_or_known_from_the_file():
    assert language_of("A.JSX") == "javascript" and language_of("a") is None
    with pytest.raises(CodeError, match="language="):
        functions("def f(): pass")
    with pytest.raises(CodeError, match="'cobol' is unknown; known: python, javascript"):
        functions("x", "cobol")
