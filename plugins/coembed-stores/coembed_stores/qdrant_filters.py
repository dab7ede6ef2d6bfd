"""Filters as Qdrant's conditions over flat typed fields (see `facts`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qdrant_client import models

from coembed_stores.facts import exact, field
from coembed_stores.pushdown import Cant, Path, Scalar

FACTS = "f"  # the key of a point's payload under which the fields lie
_RANGE = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


class Conditions:
    """The language of `pushdown` in Qdrant's filters; `any_point` says whether some point passes one.

    Strings have no order there and are searched by words, so what asks for order or parts of strings raises Cant.
    """

    def __init__(self, any_point: Callable[[models.Filter], bool]) -> None:
        self.any_point = any_point

    def there(self, path: Path) -> models.Filter:
        """See `Language`."""
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=_key("k", path)))
        return models.Filter(must_not=[empty])

    def equal(self, path: Path, value: Scalar) -> models.Filter:
        """See `Language`."""
        return self._holds("", path, value)

    def order(self, path: Path, op: str, value: str | int | float) -> models.Filter:
        """See `Language`."""
        prefix, held = self._constant(value)
        if isinstance(held, str):
            raise Cant("Qdrant has no order of strings")
        if self.any_point(self._kind(path, ["number!"])):
            raise Cant(f"some values of {'.'.join(path)} are more than a float holds exactly")
        return _all(models.FieldCondition(key=_key(prefix, path), range=models.Range(**{_RANGE[op]: held})))

    def has(self, path: Path, value: Scalar) -> models.Filter:
        """See `Language`."""
        if isinstance(value, str) and self.any_point(self._kind(path, ["string", "string!"])):
            raise Cant(f"some values of {'.'.join(path)} are strings, and Qdrant finds no parts of strings")
        return self._holds("l", path, value)

    def within(self, path: Path, text: str) -> models.Filter:
        """See `Language`."""
        raise Cant("Qdrant finds no parts of strings")

    def every(self, parts: Sequence[models.Filter]) -> models.Filter:
        """See `Language`."""
        return _all(*parts)

    def some(self, parts: Sequence[models.Filter]) -> models.Filter:
        """See `Language`."""
        return models.Filter(should=list(parts))

    def negate(self, part: models.Filter) -> models.Filter:
        """See `Language`."""
        return models.Filter(must_not=[part])

    def never(self) -> models.Filter:
        """See `Language`; every point has an id in its payload."""
        return _all(models.IsEmptyCondition(is_empty=models.PayloadField(key="id")))

    def _holds(self, listed: str, path: Path, value: Scalar) -> models.Filter:
        prefix, held = self._constant(value)
        key = _key(f"{listed}{prefix}", path)
        if isinstance(held, float):  # exact matches are of whole numbers only
            return _all(models.FieldCondition(key=key, range=models.Range(gte=held, lte=held)))
        return _all(models.FieldCondition(key=key, match=models.MatchValue(value=held)))

    @staticmethod
    def _kind(path: Path, kinds: list[str]) -> models.Filter:
        return _all(models.FieldCondition(key=_key("k", path), match=models.MatchAny(any=kinds)))

    @staticmethod
    def _constant(value: Scalar) -> tuple[str, str | float | bool]:
        found = exact(value)
        if found is None:
            raise Cant(f"a field can't hold {value!r} exactly")
        return found


def _key(prefix: str, path: Path) -> str:
    return f"{FACTS}.{field(prefix, path)}"


def _all(*parts: models.Condition) -> models.Filter:
    return models.Filter(must=list(parts))
