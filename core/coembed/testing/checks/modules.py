"""Check that a plugin's modules only define things when they are imported."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import multiprocessing
import sys
from functools import partial
from types import ModuleType
from typing import Any

from coembed.plugins import CORE
from coembed.spec import resolve
from coembed.testing import settings
from coembed.testing.subject import Inapplicable, Subject, check, hold


@check("plugin")
def imports_change_nothing(subject: Subject) -> None:
    """Importing the plugin's modules leaves dtype, seed, threads, environment and warning filters alone."""
    if subject.plugin.error is not None:
        raise Inapplicable("the plugin does not load")
    if "fork" not in multiprocessing.get_all_start_methods():
        raise Inapplicable("needs processes that fork")
    for _, spec in subject.plugin:
        with contextlib.suppress(Exception):  # another check says what is wrong with a target
            resolve(spec.target)
    modules = _own(subject)
    receive, send = multiprocessing.Pipe(duplex=False)
    # In a child: the modules run a second time there, and what that leaves behind goes with it.
    child = multiprocessing.get_context("fork").Process(target=_run_again, args=(modules, send), daemon=True)
    child.start()
    send.close()
    try:
        changes: dict[str, list[str]] = receive.recv() if receive.poll(60) else {}
    except EOFError:  # a module ended the child; imported once, it did not end us
        changes = {}
    finally:
        child.kill()
        child.join()
    found = [f"importing {module} changes {change}" for module, them in changes.items() for change in them]
    hold(not found, "; ".join(found[:3]))


def _own(subject: Subject) -> list[ModuleType]:
    """The plugin's modules that are imported by now: libraries' own do as they like."""
    top = subject.plugin.module.partition(":")[0].partition(".")[0]
    names = {spec.target.partition(":")[0] for _, spec in subject.plugin}
    if subject.plugin.name != CORE:
        names |= {name for name in sys.modules if name.partition(".")[0] == top}
    return [sys.modules[name] for name in sorted(names) if name in sys.modules and not name.endswith("__main__")]


def _run_again(modules: list[ModuleType], send: Any) -> None:
    """Each module's code once more: what it imports is there by now, so only its own statements can change a thing."""
    changes = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for module in modules:
            changes[module.__name__] = settings.changed_by(partial(_execute, module))
    send.send(changes)


def _execute(module: ModuleType) -> None:
    if module.__spec__ is not None and module.__spec__.loader is not None:
        with contextlib.suppress(Exception, SystemExit):  # some modules can't run twice: registrations
            module.__spec__.loader.exec_module(importlib.util.module_from_spec(module.__spec__))
