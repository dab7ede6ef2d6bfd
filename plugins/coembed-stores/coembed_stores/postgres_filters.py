"""Filters as SQL over jsonb: every constant and key is a bound parameter, texts compare by code points."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from coembed_stores.pushdown import Cant, Path, Scalar


class Sql:
    """The language of `pushdown` in SQL; expressions are fragments of fixed text, `params` what they bind.

    >>> sql = Sql("keys")
    >>> sql.equal(("lang",), "de"), sql.params
    ('coalesce((keys -> %(p0)s::text) = %(p1)s::jsonb, false)', {'p0': 'lang', 'p1': '"de"'})
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self.params: dict[str, Any] = {}

    def bound(self, value: Any, kind: str) -> str:
        """A parameter, cast to a type."""
        name = f"p{len(self.params)}"
        self.params[name] = value
        return f"%({name})s::{kind}"

    def there(self, path: Path) -> str:
        """See `Language`."""
        return f"coalesce({self._value(path)} <> 'null'::jsonb, false)"

    def equal(self, path: Path, value: Scalar) -> str:
        """See `Language`; jsonb compares kinds first, and numbers as numeric, exactly."""
        text = exact_json(value)
        return self.never() if text is None else f"coalesce({self._value(path)} = {self.bound(text, 'jsonb')}, false)"

    def order(self, path: Path, op: str, value: str | int | float) -> str:
        """See `Language`."""
        found, text = self._value(path), exact_json(value)
        if text is None:
            raise Cant("PostgreSQL can't hold the text that it compares with")
        if isinstance(value, str):
            this = f'({found} #>> \'{{}}\') COLLATE "C" {op} {self.bound(value, "text")} COLLATE "C"'
            return self._if(found, "string", this)
        return self._if(found, "number", f"({found})::numeric {op} {self.bound(text, 'numeric')}")

    def has(self, path: Path, value: Scalar) -> str:
        """See `Language`."""
        found, text = self._value(path), exact_json(value)
        if text is None:
            return self.never()
        listed = self._if(found, "array", f"{found} @> {self.bound(text, 'jsonb')}")
        if not isinstance(value, str):
            return listed
        part = f"strpos({found} #>> {_ROOT}, {self.bound(value, 'text')}) > 0"
        return f"({listed} OR {self._if(found, 'string', part)})"

    def within(self, path: Path, text: str) -> str:
        """See `Language`."""
        if exact_json(text) is None:
            raise Cant("PostgreSQL can't hold the text that it looks into")
        found = self._value(path)
        return self._if(found, "string", f"strpos({self.bound(text, 'text')}, {found} #>> {_ROOT}) > 0")

    def every(self, parts: Sequence[str]) -> str:
        """See `Language`."""
        return f"({' AND '.join(parts)})"

    def some(self, parts: Sequence[str]) -> str:
        """See `Language`."""
        return f"({' OR '.join(parts)})"

    def negate(self, part: str) -> str:
        """See `Language`."""
        return f"(NOT {part})"

    def never(self) -> str:
        """See `Language`."""
        return "false"

    def _value(self, path: Path) -> str:
        """`->` with a text takes a key of an object and nothing of a list, as a filter does."""
        if any(not storable(name) for name in path):
            raise Cant("PostgreSQL can't hold the key's name")
        return f"({' -> '.join([self.column, *(self.bound(name, 'text') for name in path)])})"

    @staticmethod
    def _if(found: str, kind: str, then: str) -> str:
        """CASE, since AND may compute its parts in any order, and a cast of another kind is an error."""
        return f"(CASE WHEN jsonb_typeof({found}) = '{kind}' THEN {then} ELSE false END)"


_ROOT = "'{}'"


def storable(text: str) -> bool:
    """Whether PostgreSQL's text holds a string: no NUL, no half of a surrogate pair.

    >>> storable("été"), storable("\\x00")
    (True, False)
    """
    return "\x00" not in text and (text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text))


def exact_json(value: Any) -> str | None:
    """JSON in which every number stands for exactly what it is; None where jsonb can't hold a text.

    A float is written out: 0.1 is 0.1000000000000000055…, so that it compares with whole numbers as in Python.

    >>> exact_json({"a": [0.5, 10**20, True, None, "x"]})
    '{"a":[0.5,100000000000000000000,true,null,"x"]}'
    """
    if isinstance(value, str):
        return json.dumps(value) if storable(value) else None
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return format(Decimal(value), "f")
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    parts = []
    for key, inner in pairs:
        name, text = exact_json(str(key)), exact_json(inner)
        if name is None or text is None:
            return None
        parts.append(f"{name}:{text}" if isinstance(value, dict) else text)
    return f"{{{','.join(parts)}}}" if isinstance(value, dict) else f"[{','.join(parts)}]"
