"""The languages that tree-sitter reads for us: where each grammar is and what it calls things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["LANGUAGES", "SUFFIXES", "Language"]


@dataclass(frozen=True)
class Language:
    """What the walk over a syntax tree must know of a language.

    `module` and `factory` give the grammar; `functions` are the node types of definitions, `containers` those that
    lend their name (type: the field that holds it); `values` are function expressions, which are named by what they
    are assigned to; `wrappers` enclose a definition and belong to its text; `markers` stand before it and do too.
    `bare` says that a definition may lack a body.
    """

    module: str
    functions: frozenset[str]
    containers: Mapping[str, str]
    suffixes: tuple[str, ...]
    factory: str = "language"
    values: frozenset[str] = frozenset()
    wrappers: frozenset[str] = frozenset()
    markers: frozenset[str] = field(default=frozenset())
    bare: bool = False


_SCRIPT_FUNCTIONS = frozenset({"function_declaration", "generator_function_declaration", "method_definition"})
_SCRIPT_VALUES = frozenset({"arrow_function", "function_expression", "generator_function"})
_SCRIPT_WRAPPERS = frozenset(
    {"variable_declarator", "lexical_declaration", "variable_declaration", "export_statement"}
    | {"pair", "field_definition", "public_field_definition", "assignment_expression", "expression_statement"}
)
_SCRIPT_CONTAINERS = {"class_declaration": "name", "class": "name"}


def _typescript(factory: str, *suffixes: str) -> Language:
    more = {"abstract_class_declaration": "name", "internal_module": "name", "module": "name"}
    return Language(
        "tree_sitter_typescript",
        _SCRIPT_FUNCTIONS,
        _SCRIPT_CONTAINERS | more,
        suffixes,
        factory,
        _SCRIPT_VALUES,
        _SCRIPT_WRAPPERS,
        frozenset({"decorator"}),
    )


LANGUAGES: dict[str, Language] = {
    "javascript": Language(
        "tree_sitter_javascript",
        _SCRIPT_FUNCTIONS,
        _SCRIPT_CONTAINERS,
        (".js", ".mjs", ".cjs", ".jsx"),
        values=_SCRIPT_VALUES,
        wrappers=_SCRIPT_WRAPPERS,
        markers=frozenset({"decorator"}),
    ),
    "typescript": _typescript("language_typescript", ".ts", ".mts", ".cts"),
    "tsx": _typescript("language_tsx", ".tsx"),
    "go": Language("tree_sitter_go", frozenset({"function_declaration", "method_declaration"}), {}, (".go",)),
    "rust": Language(
        "tree_sitter_rust",
        frozenset({"function_item"}),
        {"impl_item": "type", "trait_item": "name", "mod_item": "name"},
        (".rs",),
        markers=frozenset({"attribute_item"}),
    ),
    "java": Language(
        "tree_sitter_java",
        frozenset({"method_declaration", "constructor_declaration", "compact_constructor_declaration"}),
        {f"{kind}_declaration": "name" for kind in ("class", "interface", "enum", "record", "annotation_type")},
        (".java",),
    ),
    "c": Language("tree_sitter_c", frozenset({"function_definition"}), {}, (".c", ".h")),
    "cpp": Language(
        "tree_sitter_cpp",
        frozenset({"function_definition"}),
        {
            "class_specifier": "name",
            "struct_specifier": "name",
            "union_specifier": "name",
            "namespace_definition": "name",
        },
        (".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".ipp"),
        wrappers=frozenset({"template_declaration"}),
    ),
    "csharp": Language(
        "tree_sitter_c_sharp",
        frozenset({"method_declaration", "constructor_declaration", "local_function_statement"}),
        {f"{kind}_declaration": "name" for kind in ("class", "struct", "record", "interface", "enum", "namespace")},
        (".cs",),
    ),
    "ruby": Language(
        "tree_sitter_ruby",
        frozenset({"method", "singleton_method"}),
        {"class": "name", "module": "name"},
        (".rb",),
        bare=True,
    ),
    "php": Language(
        "tree_sitter_php",
        frozenset({"function_definition", "method_declaration"}),
        {
            "namespace_definition": "name",
            **{f"{kind}_declaration": "name" for kind in ("class", "interface", "trait", "enum")},
        },
        (".php",),
        "language_php",
        frozenset({"anonymous_function", "arrow_function"}),
        frozenset({"assignment_expression", "expression_statement"}),
    ),
}

SUFFIXES: dict[str, str] = {suffix: name for name, language in LANGUAGES.items() for suffix in language.suffixes}
SUFFIXES |= {".py": "python", ".pyi": "python", ".pyw": "python"}
