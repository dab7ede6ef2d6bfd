"""The names of `import coembed`: each resolves when it is used, and type checkers see the same ones."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import coembed


def test_every_public_name_is_what_its_module_holds():
    for name in set(coembed.__all__) - {"__version__"}:
        value = getattr(coembed, name)
        assert value is getattr(importlib.import_module(f"coembed.{coembed._EXPORTS[name]}"), name), name
    assert set(dir(coembed)) == set(coembed.__all__)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(coembed.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"coembed.{module}" for name, module in coembed._EXPORTS.items()}


def test_merge_and_grow_are_functions_before_and_after_their_packages_are_imported():
    code = """
import sys, coembed
assert not [m for m in ("torch", "coembed.merging", "coembed.growth") if m in sys.modules]
from coembed import grow, merge
import coembed.growth.grow, coembed.merging.merge
assert coembed.merge is merge and coembed.grow is grow and callable(merge) and callable(grow)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
