"""Functions of other languages than Python, by tree-sitter."""

from __future__ import annotations

import sys

import pytest

from coembed_code.functions import CodeError, functions, items
from coembed_code.languages import LANGUAGES
from coembed_code.syntax import _parser, comment_text

# language -> source, the wanted (qualname, first line, last line, docstring)
SNIPPETS = {
    "javascript": (
        """
/** Adds.
 * @return the sum
 */
export function add(a, b) { return a + b }
class A {
  // no text
  m() { return 1 }
  static x = () => 1;
  *[Symbol.iterator]() {} #hidden() {}
}
const f = async (x) => {
  return x
};
const two = () => 1, three = 3;
exports.g = function () {};
const o = { h: function () {}, 'k k': () => 1 };
app.get("/", function () {});
export default function () {}
""",
        [
            ("add", 4, 4, "Adds.\n@return the sum"),
            ("A.m", 7, 7, "no text"),
            ("A.x", 8, 8, ""),
            ("A.Symbol.iterator", 9, 9, ""),
            ("A.#hidden", 9, 9, ""),
            ("f", 11, 13, ""),
            ("two", 14, 14, ""),
            ("exports.g", 15, 15, ""),
            ("h", 16, 16, ""),
            ("k k", 16, 16, ""),
            ("default", 18, 18, ""),
        ],
    ),
    "typescript": (
        """
namespace N { export function a<T>(x: T): T { return x } }
abstract class B {
  abstract g(): void;
  // Doc
  @dec()
  h(): void {
    1
  }
  private f = () => 1;
}
function signature(x: number): void;
interface I { m(): void }
""",
        [("N.a", 1, 1, ""), ("B.h", 5, 8, "Doc"), ("B.f", 9, 9, "")],
    ),
    "tsx": ("\nfunction App() {\n  return <div>hi</div>;\n}\n", [("App", 1, 3, "")]),
    "go": (
        "\npackage p\n\n// License\n\n// Add adds.\n// More.\nfunc Add(a int) int { return a }\n"
        "func (s *Stack[T]) Push(x T) {\n}\n",
        [("Add", 7, 7, "Add adds.\nMore."), ("Stack.Push", 8, 9, "")],
    ),
    "rust": (
        """
/// Docs
#[inline]
#[must_use]
pub fn a<T>(x: T) -> T { x }
impl<T> Foo<T> { fn m(&self) {} }
impl fmt::Display for a::Bar<'a> { fn fmt(&self) {} }
trait T { fn d(&self) {} fn s(&self); }
mod x { fn y() {} }
""",
        [("a", 2, 4, "Docs"), ("Foo.m", 5, 5, ""), ("a.Bar.fmt", 6, 6, ""), ("T.d", 7, 7, ""), ("x.y", 8, 8, "")],
    ),
    "java": (
        """
class A {
  /**
   * Doc
   */
  @Override
  public int f(int x) {
    return x;
  }
  A() {}
  abstract void g();
  class B { void h() {} }
}
record P(int x) { P {} }
""",
        [("A.f", 5, 8, "Doc"), ("A.A", 9, 9, ""), ("A.B.h", 11, 11, ""), ("P.P", 13, 13, "")],
    ),
    "c": (
        """
/* adds */
static int *add(int a) { return 0; } /* after */
int proto(int);
int (*fp(int x))(int) { return 0; }
""",
        [("add", 2, 2, "adds"), ("fp", 4, 4, "")],
    ),
    "cpp": (
        """
namespace n {
// Doc
template <typename T>
T id(T x) { return x; }
class A {
 public:
  A() = default;
  ~A() {}
  bool operator<(const A& o) { return true; }
  A& g() { return *this; }
  operator bool() const { return true; }
};
}
int n::A<int>::
  h() { return 1; }
bool n::B<A<int>, 2>::operator>>(int x) { return x; }
""",
        [
            ("n.id", 3, 4, "Doc"),
            ("n.A.~A", 8, 8, ""),
            ("n.A.operator<", 9, 9, ""),
            ("n.A.g", 10, 10, ""),
            ("n.A.operator bool", 11, 11, ""),
            ("n.A.h", 14, 15, ""),
            ("n.B.operator>>", 16, 16, ""),
        ],
    ),
    "csharp": (
        """
namespace N { class A {
  /// <summary>Doc</summary>
  public int F(int x) => x; A() {}
  void L() { int q() { return 1; } }
  abstract void G();
} }
""",
        [("N.A.F", 3, 3, "<summary>Doc</summary>"), ("N.A.A", 3, 3, ""), ("N.A.L", 4, 4, ""), ("N.A.L.q", 4, 4, "")],
    ),
    "ruby": (
        """
module M
  class A < B
    # adds
    def add(x)
      x
    end
    def self.make = new
    def nop; end
  end
end
""",
        [("M.A.add", 4, 6, "adds"), ("M.A.make", 7, 7, ""), ("M.A.nop", 8, 8, "")],
    ),
    "php": (
        """
<?php
/** Doc */
function f($x) { return $x; }
class A { public function m() {} abstract function n(); }
$g = function () {};
""",
        [("f", 3, 3, "Doc"), ("A.m", 4, 4, ""), ("g", 5, 5, "")],
    ),
}


def test_every_language_has_a_snippet():
    assert set(SNIPPETS) == set(LANGUAGES)


@pytest.mark.parametrize("language", SNIPPETS)
def test_functions_of_a_language(language):
    source, wanted = SNIPPETS[language]
    source = source.removeprefix("\n")
    found = functions(source, language)
    assert [(f.qualname, f.start, f.end, f.docstring) for f in found] == wanted
    lines = source.split("\n")
    for function in found:
        first = function.code.split("\n")[0]
        assert first.strip() and first == first.lstrip()  # at the left margin
        assert first in lines[function.start - 1]
        assert function.name == function.qualname.rpartition(".")[2]


def test_continued_lines_move_left_with_the_first():
    [found] = functions("class A {\n    m() {\n        return 1\n    }\n}", "javascript")
    assert found.code == "m() {\n    return 1\n}"


def test_code_with_errors_still_gives_its_functions(tmp_path):
    assert [f.name for f in functions("int good(void) { return 1; }\n@@@ what", "c")] == ["good"]
    assert functions("API_BEGIN\nstruct a { int x; };\nAPI_END(", "c") == []
    path = tmp_path / "noise.js"
    path.write_text(")))(((")
    assert functions(path) == [] and items(path) == [")))((("]


def test_deep_nesting_does_not_exhaust_the_stack():
    deep = "function f() { return " + "(" * 5000 + "1" + ")" * 5000 + " }"
    assert [f.name for f in functions(deep, "javascript")] == ["f"]


def test_offsets_count_bytes_not_characters():
    [first, second] = functions("// ß漢😀\nfunction f() { return 'ß漢😀' }\nfunction g() {}\n", "javascript")
    assert first.docstring == "ß漢😀" and first.code == "function f() { return 'ß漢😀' }"
    assert second.code == "function g() {}" and second.docstring == ""


def test_comments_lose_their_marks():
    assert comment_text("// a\n// b") == "a\nb"
    assert comment_text("/* one */") == "one"
    assert comment_text("/**\n * a\n *\n * b\n */") == "a\n\nb"
    assert comment_text("# ruby") == "ruby"
    assert comment_text("") == ""


def test_a_missing_grammar_names_the_extra(monkeypatch):
    _parser.cache_clear()
    monkeypatch.setitem(sys.modules, "tree_sitter_go", None)
    with pytest.raises(CodeError, match=r"go .* pip install 'coembed-code\[languages\]'"):
        functions("package p", "go")
    _parser.cache_clear()


def test_every_suffix_belongs_to_one_language():
    suffixes = [suffix for language in LANGUAGES.values() for suffix in language.suffixes]
    assert len(suffixes) == len(set(suffixes))
