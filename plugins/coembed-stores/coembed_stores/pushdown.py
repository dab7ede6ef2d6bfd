"""Pushdown: a filter translated, test by test, into the language in which a store filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from coembed.index.syntax import Every, Leaf, Node, Not, Some

E = TypeVar("E")
Path = tuple[str, ...]
Scalar = str | int | float | bool


class Cant(Exception):
    """A test that the store's language lacks, for these rows; the message says which."""


class Language(Protocol[E]):
    """Expressions that are true or false for every row, never unknown; each may raise Cant."""

    def there(self, path: Path) -> E:
        """The key is there, and not null."""

    def equal(self, path: Path, value: Scalar) -> E:
        """The value is of the constant's kind (truth, number, string), and equal to it."""

    def order(self, path: Path, op: str, value: str | int | float) -> E:
        """The value is of the constant's kind, and less or greater; strings by code points."""

    def has(self, path: Path, value: Scalar) -> E:
        """The value is a list with the constant in it, or a string of which the constant is a part."""

    def within(self, path: Path, text: str) -> E:
        """The value is a string, and a part of `text`."""

    def every(self, parts: Sequence[E]) -> E:
        """All of them (one at least)."""

    def some(self, parts: Sequence[E]) -> E:
        """One of them at least (of one at least)."""

    def negate(self, part: E) -> E:
        """Where the part is false."""

    def never(self) -> E:
        """No row."""


def push(node: Node, language: Language[E]) -> E:
    """Where a filter is true; raises Cant if a test of it can't be said in the language."""
    return _truth(node, language)[0]


def _truth(node: Node, language: Language[E]) -> tuple[E, E]:
    """Where it is true and where it is false; elsewhere it is unknown."""
    if isinstance(node, (Every, Some)):
        pairs = [_truth(part, language) for part in node.parts]
        true, false = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if isinstance(node, Every):
            return language.every(true), language.some(false)
        return language.some(true), language.every(false)
    if isinstance(node, Not):
        true_, false_ = _truth(node.part, language)
        return false_, true_
    there = language.there(node.path)
    if node.op == "null":
        return language.negate(there), there
    if node.op == "true":
        return language.equal(node.path, True), language.equal(node.path, False)
    found = _test(node, language)
    return found, language.every([there, language.negate(found)])


def _test(test: Leaf, language: Language[E]) -> E:
    path, value = test.path, test.value
    if test.op == "in":
        equal = [language.equal(path, _scalar(one)) for one in value if one is not None]
        return language.some(equal) if equal else language.never()
    if test.op == "==":
        return language.equal(path, _scalar(value))
    if test.op == "has":
        return language.has(path, _scalar(value))
    if test.op == "within":
        return language.within(path, value)
    if isinstance(value, bool):  # nothing is less than a truth
        return language.never()
    return language.order(path, test.op, _scalar(value))


def _scalar(value: Any) -> Scalar:
    if isinstance(value, list) or value is None:
        raise Cant("it compares with a list of lists")
    if isinstance(value, float) and not math.isfinite(value):
        raise Cant(f"{value} is no number that a store keeps")
    found: Scalar = value
    return found
