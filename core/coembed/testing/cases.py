"""What the conformance kit is made of: checks by kind of component, and the cases that they give on a plugin."""

from __future__ import annotations

import inspect
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coembed.plugins import CORE, Plugin, diagnose, plugins
from coembed.spec import Spec, resolve
from coembed.testing.guard import offline

Check = Callable[["Subject"], None]

CHECKS: dict[str, list[Check]] = {}


class Inapplicable(Exception):
    """The component does not claim what this check is about; counted as holding, shown as '-'."""


def check(*kinds: str) -> Callable[[Check], Check]:
    """Register a check for kinds of components ("plugin" for the package itself); its docstring is what it asks."""

    def register(function: Check) -> Check:
        for kind in kinds:
            CHECKS.setdefault(kind, []).append(function)
        return function

    return register


@dataclass
class Subject:
    """What a check looks at: a plugin, or one component of it."""

    plugin: Plugin
    kind: str
    spec: Spec | None
    folder: Path

    @property
    def target(self) -> Any:
        """The component's class."""
        assert self.spec is not None
        return resolve(self.spec.target)

    def tiny(self) -> Any:
        """A fresh small instance: what the class's `tiny` builds."""
        if self.kind == "encoder":
            return self.target.tiny(self.spec).eval()
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        component = self.target.tiny(folder)
        component.spec = self.spec
        return component


@dataclass(frozen=True)
class Case:
    """One check on one component."""

    plugin: str
    kind: str
    component: str
    check: str

    @property
    def id(self) -> str:
        """The case's name in test ids and tables."""
        return f"{self.component}-{self.check}"

    def run(self) -> None:
        """Run it with the network blocked; raises AssertionError, or what the component raises, if it does not hold."""
        plugin = _loaded(self.plugin)
        function = next(f for f in CHECKS[self.kind] if f.__name__ == self.check)
        found = plugin.find(self.component) if self.kind != "plugin" else None
        with tempfile.TemporaryDirectory() as folder, offline():
            function(Subject(plugin, self.kind, found[1] if found else None, Path(folder)))


@dataclass(frozen=True)
class Result:
    """A case's outcome: `status` is "ok", "failed" or "-" (not claimed)."""

    case: Case
    status: str
    seconds: float
    message: str = ""


def _loaded(name: str) -> Plugin:
    plugin = plugins().plugin(name)
    if plugin.error is not None:
        raise AssertionError(f"plugin {name} does not load: {diagnose(plugin.error)}") from plugin.error
    return plugin


def cases(name: str) -> Iterator[Case]:
    """Every check on a plugin and on each of its components; a plugin that does not load has its own checks only."""
    from coembed.testing import checks

    assert checks  # importing it registers the checks
    plugin = plugins().plugin(name)
    for function in CHECKS["plugin"]:
        if name != CORE:
            yield Case(name, "plugin", name, function.__name__)
    for kind, spec in plugin:
        for function in CHECKS.get(kind, []):
            yield Case(name, kind, spec.name, function.__name__)


def run(case: Case) -> Result:
    """A case's outcome, with the reason in one line if it does not hold."""
    began = time.perf_counter()
    try:
        case.run()
    except Inapplicable as reason:
        return Result(case, "-", time.perf_counter() - began, str(reason))
    except (Exception, SystemExit) as error:
        text = str(error) if isinstance(error, AssertionError) and str(error) else diagnose(error)
        return Result(case, "failed", time.perf_counter() - began, " ".join(text.split())[:400])
    return Result(case, "ok", time.perf_counter() - began)


def asked(kind: str, name: str) -> str:
    """What a check asks, in a sentence."""
    function = next(f for f in CHECKS[kind] if f.__name__ == name)
    return (inspect.getdoc(function) or "").split("\n")[0]
