"""What a caller may give: errors that name the argument, the value and the fix."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from coembed.registry import near


def number(
    name: str, value: Any, *, whole: bool = False, least: float = 0.0, most: float = math.inf, above: bool = False
) -> None:
    """Raise ValueError unless a value is a number from `least` (with `above`: above it) to `most`, whole if asked.

    >>> number("batch_size", 0, whole=True, least=1)
    Traceback (most recent call last):
    ValueError: batch_size is 0: a whole number of at least 1 is expected
    """
    kinds = (int,) if whole else (int, float)
    fits = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if fits and least <= value <= most and not (above and value == least):
        return
    kind = "a whole number" if whole else "a number"
    span = f"above {least:g}" if above else f"of at least {least:g}"
    span += "" if most == math.inf else f" and at most {most:g}"
    raise ValueError(f"{name} is {value!r}: {kind} {span} is expected")


def items_list(items: Any, name: str) -> None:
    """Raise TypeError unless `items` is a list or the like: one item alone, or a tensor, would be taken apart.

    >>> items_list("a cat", "text/minilm")
    Traceback (most recent call last):
    TypeError: text/minilm: a list of items is expected, got one str; wrap it: ['a cat']
    """
    if isinstance(items, (str, bytes, bytearray)):
        wrapped = f": [{items!r}]" if len(items) < 40 else " in a list"
        raise TypeError(f"{name}: a list of items is expected, got one {type(items).__name__}; wrap it{wrapped}")
    what = f"{name}: a list of items is expected, got {type(items).__name__}"
    kind = getattr(getattr(items, "dtype", None), "kind", None)  # NumPy's: arrays of text and objects are lists enough
    if (hasattr(items, "__array__") or hasattr(items, "__array_interface__")) and kind not in ("O", "U", "S", "T"):
        shape = f" of shape {tuple(items.shape)}" if hasattr(items, "shape") else ""
        raise TypeError(f"{what}{shape}: [it] is one item, list(it) is one item a row")
    if isinstance(items, (Mapping, set, frozenset)):
        raise TypeError(f"{what}: give a list, in the order in which the rows shall come")
    if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
        raise TypeError(f"{what}: {'list(it) makes one' if isinstance(items, Iterable) else 'wrap it: [it]'}")


def call(name: str, target: Callable[..., Any], given: Mapping[str, Any], *first: Any) -> Any:
    """Build a component: `target(*first, **given)`; raises TypeError saying which argument lacks, or is not known.

    >>> def opened(path, towers=None): ...
    >>> call("jsonl", opened, {})
    Traceback (most recent call last):
    TypeError: jsonl needs path: load('jsonl', path=…); it takes path, towers
    """
    try:
        return target(*first, **given)
    except TypeError as error:
        if why := _mismatch(name, target, given, len(first)):
            raise TypeError(why) from error
        raise


def _mismatch(name: str, target: Callable[..., Any], given: Mapping[str, Any], filled: int) -> str | None:
    """What keeps a call from matching the signature; None if it matches, or the signature can't be read."""
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return None
    if any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters.values()):
        return None
    known = list(parameters)[filled:]
    takes = f"it takes {', '.join(known) or 'no arguments'}"
    for key in given:
        if key not in known:
            close = near(key, known)
            return f"{name} takes no argument {key!r}; " + (f"did you mean {' or '.join(close)}?" if close else takes)
    missing = [key for key in known if parameters[key].default is inspect.Parameter.empty and key not in given]
    if missing:
        shown = ", ".join(f"{key}=…" for key in missing)
        return f"{name} needs {', '.join(missing)}: load({name!r}, {shown}); {takes}"
    return None
