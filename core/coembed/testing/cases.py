"""The cases that the checks give on a plugin, run one by one."""

from __future__ import annotations

import inspect
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coembed.plugins import diagnose, plugins
from coembed.testing import settings
from coembed.testing.guard import offline
from coembed.testing.subject import CHECKS, Broken, Check, Inapplicable, Subject, Unavailable


@dataclass(frozen=True)
class Case:
    """One check on one component; of a check on the whole plugin, `component` is the plugin's name."""

    plugin: str
    kind: str
    component: str
    check: str

    @property
    def id(self) -> str:
        """The case's name in test ids and tables."""
        return f"{self.component}-{self.check}"

    @property
    def asks(self) -> str:
        """What the check asks, in a sentence."""
        return (inspect.getdoc(self._function()) or "").split("\n\n")[0].replace("\n", " ")

    def run(self) -> None:
        """Run it without a network; process-wide settings are put back.

        Raises Broken, or whatever the component raises, if it does not hold; Inapplicable if it is not claimed.
        """
        plugin = plugins().plugin(self.plugin)
        found = plugin.find(self.component) if self.kind != "plugin" else None
        spec = found[1] if found else None
        with tempfile.TemporaryDirectory() as folder, offline(), settings.preserved():
            try:
                self._function()(Subject(plugin, self.kind, spec, Path(folder)))
            except ImportError as error:
                if spec is None or not spec.extra:
                    raise
                fix = f"pip install '{plugin.package}[{spec.extra}]'"
                raise Unavailable(f"{self.component} needs {fix} ({error})") from error

    def _function(self) -> Check:
        return next(function for function in checks(self.kind) if function.__name__ == self.check)


@dataclass(frozen=True)
class Result:
    """A case's outcome: `status` is "ok", "failed" or "-" (not claimed or, if `missing`, not to be had here)."""

    case: Case
    status: str
    seconds: float
    reason: str = ""
    missing: bool = False


def checks(kind: str) -> list[Check]:
    """The checks on a kind of component, in their order."""
    from coembed.testing import checks as kit

    assert kit  # importing it registers them
    return CHECKS.get(kind, [])


def cases(name: str) -> Iterator[Case]:
    """Every check on a plugin and on each of its components; of one that does not load, those on the plugin alone.

    Raises PluginError if no plugin of that name is installed.

    >>> next(cases("core")).id
    'core-loads'
    """
    plugin = plugins().plugin(name)
    subjects = [("plugin", name), *((kind, spec.name) for kind, spec in plugin)]
    for kind, component in subjects:
        for function in checks(kind):
            yield Case(name, kind, component, function.__name__)


def run(case: Case) -> Result:
    """A case's outcome; the reason is one line."""
    began = time.perf_counter()
    status, reason, missing = "ok", "", False
    try:
        case.run()
    except Inapplicable as error:
        status, reason, missing = "-", str(error), isinstance(error, Unavailable)
    except (Exception, SystemExit) as error:  # whatever a stranger's code raises is a result
        status, reason = "failed", str(error) if isinstance(error, Broken) else diagnose(error)
    return Result(case, status, time.perf_counter() - began, " ".join(reason.split())[:600], missing)
