"""Settings with their places: YAML whose every fault is named by file, line and key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from coembed.items import describe
from coembed.registry import near

Place = tuple[str | int, ...]

WORDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}


class RunError(ValueError):
    """Settings that are not right; the message names the file, the line, the key and what was expected."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain words: `no` is a text (a language!), `1e-3` a number, a date a text."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in [
    ("null", "~|null|Null|NULL|", "~nN\0"),
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.yaml_implicit_resolvers[""] = _Loader.yaml_implicit_resolvers.pop("\0")  # an empty value is null


@dataclass(frozen=True)
class Part:
    """A mapping of settings, where it stands, and the lines of everything below it.

    >>> part = Part({"dim": "wide"}, "run.yaml", lines={("dim",): 3})
    >>> part.get("dim", int)
    Traceback (most recent call last):
    coembed.settings.RunError: run.yaml, line 3, dim: a whole number is expected, got str 'wide'
    """

    data: Mapping[str, Any]
    file: str
    place: Place = ()
    lines: Mapping[Place, int] = field(default_factory=dict)

    def at(self, *keys: str | int) -> str:
        """The place of a key, or of the mapping itself, in words."""
        place = self.place + keys
        line = next((self.lines[place[:i]] for i in range(len(place), -1, -1) if place[:i] in self.lines), None)
        name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).lstrip(".")
        return self.file + (f", line {line}" if line is not None else "") + (f", {name}" if name else "")

    def only(self, *known: str) -> None:
        """Raise RunError for a key that is not one of these, naming the near ones."""
        for key in self.data:
            if key not in known:
                close = near(str(key), known)
                hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
                raise RunError(f"{self.at(key)}: no such key {key!r}; {hint}")

    def known(self, key: str, given: Iterable[str], names: Iterable[str]) -> None:
        """Raise RunError for a name that is not one of these, naming the near ones."""
        names = list(names)
        for name in given:
            if name not in names:
                close = near(str(name), names)
                hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"
                raise RunError(f"{self.at(key)}: no {key.rstrip('s')} {name!r}; {hint}")

    def get(self, key: str, kinds: type | tuple[type, ...], default: Any = None) -> Any:
        """The value of a key, of one of the types; an int passes for a float. Raises RunError."""
        value = self.data.get(key)
        if value is None:
            return default
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        if isinstance(value, bool) and bool not in kinds:
            pass
        elif isinstance(value, kinds):
            return value
        elif float in kinds and isinstance(value, int):
            return float(value)
        wanted = " or ".join(WORDS[kind] for kind in kinds)
        raise RunError(f"{self.at(key)}: {wanted} is expected, got {describe(value)}")

    def need(self, key: str, kind: type) -> Any:
        """The value of a key that has to be there."""
        value = self.get(key, kind)
        if value is None:
            raise RunError(f"{self.at()}: {key!r} is missing")
        return value

    def part(self, key: str) -> Part:
        """The mapping under a key; empty if the key is not there."""
        return Part(self.get(key, dict, {}), self.file, (*self.place, key), self.lines)

    def parts(self, key: str, short: str) -> dict[str, Part]:
        """The mappings under the names under a key; a bare text stands for `{short: text}`."""
        inner = self.part(key)
        return {name: inner._entry(name, value, short) for name, value in inner.data.items()}

    def listed(self, key: str, short: str = "", single: bool = False) -> list[Part]:
        """The mappings in a list under a key; with `short` a bare text stands for `{short: text}`."""
        if key not in self.data:
            return []
        if single:
            return [self._entry(key, self.data[key], short)]
        inner = Part({}, self.file, (*self.place, key), self.lines)
        return [inner._entry(i, value, short) for i, value in enumerate(self.get(key, list, []))]

    def _entry(self, key: str | int, value: Any, short: str) -> Part:
        if isinstance(value, str) and short:
            value = {short: value}
        if not isinstance(value, Mapping):
            expected = "a mapping" + (" or a text" if short else "")
            raise RunError(f"{self.at(key)}: {expected} is expected, got {describe(value)}")
        return Part(value, self.file, (*self.place, key), self.lines)


def read_yaml(path: Path) -> Part:
    """A YAML file as a Part; raises RunError for what is not YAML, not a mapping, or has a key twice."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
        lines: dict[Place, int] = {}
        data = _value(node, (), lines, str(path)) if node is not None else None
    except RecursionError as error:
        raise RunError(f"{path}: an alias (*) contains itself") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: UTF-8 text is expected ({error})") from error
    except yaml.YAMLError as error:
        raise RunError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise RunError(f"{path}: a mapping of settings is expected, got {describe(data)}")
    return Part(data, str(path), (), lines)


def scalar(text: str) -> Any:
    """A value as YAML would read it: `0.05` is a number, `true` a truth value, `[1, 2]` a list.

    >>> scalar("1e-3"), scalar("no")
    (0.001, 'no')
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader with fewer rules
    except yaml.YAMLError as error:
        raise RunError(f"{text!r}: not a value as YAML writes them: {' '.join(str(error).split())}") from error


def _value(node: yaml.Node, place: Place, lines: dict[Place, int], file: str) -> Any:
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise RunError(f"{file}, line {line}: a key must be a word")
            if key in found:
                raise RunError(f"{file}, line {line}: key {key!r} is there twice")
            found[key] = _value(value_node, (*place, key), lines, file)
            lines[*place, key] = line
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, i), lines, file) for i, item in enumerate(node.value)]
    loader = _Loader("")
    try:
        return loader.construct_object(node)
    finally:
        loader.dispose()
