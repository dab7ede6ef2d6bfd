"""Facts: a payload as flat typed fields, for stores whose filters know no nested, mixed JSON.

A key `lang` that holds a string gives `k_p_lang` = "string" and `s_p_lang` = the string; numbers go to `n_…` as
float64, truths to `b_…`, the strings, numbers and truths of a list to `ls_…`, `ln_…`, `lb_…`. Keys within keys, and
those of other characters, have their path hashed instead. A kind that ends in `!` says that the value is more than its
field can hold: a whole number beyond float64, or half a surrogate pair.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

Path = tuple[str, ...]
_PLAIN = re.compile(r"[a-z][a-z0-9_]{0,40}")


def field(prefix: str, path: Path) -> str:
    """The name of a field: lower-case letters, digits and underscores only, whatever the key.

    >>> field("s", ("lang",)), field("n", ("Odd key",))
    ('s_p_lang', 'n_x_5804b972acb02b06')
    """
    if len(path) == 1 and _PLAIN.fullmatch(path[0]):
        return f"{prefix}_p_{path[0]}"
    return f"{prefix}_x_{hashlib.blake2b(json.dumps(path).encode(), digest_size=8).hexdigest()}"


def facts(payload: Any) -> dict[Path, dict[str, Any]]:
    """Of every path in a payload that is not null: its fields, by prefix.

    >>> facts({"lang": "de", "meta": {"pages": 10}})[("meta", "pages")]
    {'k': 'number', 'n': 10.0}
    """
    found: dict[Path, dict[str, Any]] = {}
    waiting: list[tuple[Path, Any]] = [((), payload)]
    while waiting:  # no recursion: payloads may be deep
        path, value = waiting.pop()
        if value is None:
            continue
        found[path] = _of(value)
        if isinstance(value, dict):
            waiting += [((*path, str(key)), inner) for key, inner in value.items()]
    return found


def exact(value: Any) -> tuple[str, Any] | None:
    """A scalar's prefix and what its field holds; None if that is less than the value.

    >>> exact(3), exact(True), exact(2**53 + 1)
    (('n', 3.0), ('b', True), None)
    """
    if isinstance(value, bool):
        return "b", value
    if isinstance(value, str):
        return ("s", value) if value.isascii() or not re.search("[\ud800-\udfff]", value) else None
    try:
        number = float(value)
    except OverflowError:
        return None
    return ("n", number) if number == value else None


def _of(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"k": "dict"}
    if isinstance(value, list):
        scalars = [exact(one) for one in value if isinstance(one, (bool, int, float, str))]
        made: dict[str, Any] = {"k": "list"}
        for one in scalars:
            if one is not None:
                made.setdefault(f"l{one[0]}", []).append(one[1])
        return made
    kind = "truth" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
    one = exact(value)
    return {"k": f"{kind}!"} if one is None else {"k": kind, one[0]: one[1]}
