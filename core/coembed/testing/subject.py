"""What a check looks at, how it is registered, and how it says what is wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coembed.plugins import Plugin
from coembed.spec import Spec, resolve

Check = Callable[["Subject"], None]

CHECKS: dict[str, list[Check]] = {}


class Broken(AssertionError):
    """A promise that does not hold; the message says what was seen, what was expected, and how to mend it."""


class Inapplicable(Exception):
    """The component does not claim what this check is about; counted as holding, shown as '-'."""


class Unavailable(Inapplicable):
    """The component needs an extra that is not installed here, so that nothing could be checked."""


def check(*kinds: str) -> Callable[[Check], Check]:
    """Register a check for kinds of components ("plugin" for the package itself); its docstring is what it asks."""

    def register(function: Check) -> Check:
        for kind in kinds:
            CHECKS.setdefault(kind, []).append(function)
        return function

    return register


def hold(promise: object, message: str) -> None:
    """Raise Broken with the message unless the promise holds; unlike `assert`, under `python -O` as well.

    >>> hold(1 + 1 == 2, "arithmetic is broken")
    """
    if not promise:
        raise Broken(message)


def refused(call: Callable[[], object], message: str) -> None:
    """Raise Broken with the message unless the call raises ValueError.

    >>> refused(lambda: int("x"), "a letter was read as a number")
    """
    try:
        call()
    except ValueError:
        return
    raise Broken(message)


@dataclass
class Subject:
    """What a check looks at: a plugin, or one component of it; `folder` is empty and the check's own."""

    plugin: Plugin
    kind: str
    component: Spec | None
    folder: Path

    @cached_property
    def spec(self) -> Spec:
        """The component's spec."""
        assert self.component is not None, "a check on a whole plugin has no spec"
        return self.component

    @property
    def target(self) -> Any:
        """The component's class."""
        return resolve(self.spec.target)

    def tiny(self) -> Any:
        """A fresh small instance, in evaluation mode: what the class's `tiny` builds."""
        if self.kind == "encoder":
            return self.target.tiny(self.spec).eval()
        build = getattr(self.target, "tiny", None)
        if build is None or (self.spec.kwargs and _inherits_tiny(self.target)):
            component = self.target(**self.spec.kwargs)  # the inherited tiny() knows no arguments
        else:
            component = build(Path(tempfile.mkdtemp(dir=self.folder)))
        component.spec = self.spec
        return component

    def shared(self, *, fresh: bool = False) -> Any:
        """A small encoder that other checks see too, since building one costs most: read it, don't change it."""
        global _shared
        if fresh or _shared is None or _shared[0] is not self.spec:
            _shared = self.spec, self.tiny()
        return _shared[1]


_shared: tuple[Spec, Any] | None = None  # only the last one: cases go component by component


def _inherits_tiny(target: Any) -> bool:
    owner = next(base for base in target.__mro__ if "tiny" in vars(base))
    return owner.__module__ in ("coembed.sources.base", "coembed.objectives.base", "coembed.index.base")
