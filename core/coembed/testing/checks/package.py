"""Checks on a plugin as a whole: it loads, cheaply, and its specs tell the truth."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from importlib import metadata
from typing import Any

from coembed import registry
from coembed.aligner import Aligner
from coembed.encoder import Encoder
from coembed.hookspecs import HEAVY
from coembed.index import Index
from coembed.objectives import Objective
from coembed.plugins import CORE, PluginError, diagnose, plugins
from coembed.sources import Source
from coembed.spec import EncoderSpec, resolve
from coembed.tasks import Pretext
from coembed.testing.subject import Broken, Inapplicable, Subject, check, hold

BASES: dict[str, type[Any]] = {
    "encoder": Encoder,
    "aligner": Aligner,
    "objective": Objective,
    "pretext": Pretext,
    "source": Source,
    "index": Index,
}
SPDX = re.compile(r"\(*[A-Za-z0-9.+-]+\)*( (AND|OR|WITH) \(*[A-Za-z0-9.+-]+\)*)*")
HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
NAMES_A_CHECKPOINT = ("model", "checkpoint", "repo", "pretrained", "weights", "backbone")
# Only what the entry point brings in counts, so coembed itself is there before.
LIGHT = """
import sys
sys.path[:] = {path!r}
from coembed.plugins import Plugins
import pluggy, coembed.hookspecs
view = Plugins()
view.installed()
before = set(sys.modules)
error = view.plugin({name!r}).error
if error is not None:
    raise error
print("\\n" + " ".join(sorted(set({heavy!r}) & (set(sys.modules) - before))))
"""


@check("plugin")
def loads(subject: Subject) -> None:
    """The entry point imports, its hooks run, and its specs have its prefix and names of their own."""
    plugin = subject.plugin
    if plugin.error is not None:
        known = isinstance(plugin.error, PluginError)
        raise Broken(str(plugin.error) if known else diagnose(plugin.error)) from plugin.error
    if plugin.name != CORE:
        registry.check_owner(plugin)


def _loaded(subject: Subject) -> None:
    if subject.plugin.error is not None:
        raise Inapplicable("the plugin does not load")


@check("plugin")
def light_import(subject: Subject) -> None:
    """In a fresh interpreter, reading the plugin's specs imports nothing heavy."""
    _loaded(subject)
    code = LIGHT.format(path=sys.path, name=subject.plugin.name, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=120)
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    hold(done.returncode == 0, f"a fresh interpreter can't load {subject.plugin.name}: {last}")
    heavy = done.stdout.splitlines()[-1].split()
    hold(
        not heavy,
        f"reading the specs of {subject.plugin.name} imports {', '.join(heavy)}, and every `coembed list` would: "
        f"keep {subject.plugin.module} light, and import those in the modules that targets name",
    )


@check("plugin")
def specs_are_json(subject: Subject) -> None:
    """Every spec survives JSON, so that it can be listed, compared and saved with a space."""
    _loaded(subject)
    for _, spec in subject.plugin:
        try:
            again = json.loads(json.dumps(spec.to_json(), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise Broken(f"{spec.name}: {error}: use strings, numbers, lists and dicts in its spec") from error
        changed = [key for key, value in spec.to_json().items() if again[key] != value]
        hold(not changed, f"{spec.name}: {', '.join(changed)} comes back changed from JSON: use lists, not tuples")


@check("plugin")
def specs_are_complete(subject: Subject) -> None:
    """Every spec has a summary, a licence by SPDX, pinned weights, and no extra that the package lacks."""
    _loaded(subject)
    extras = metadata.metadata(subject.plugin.package).get_all("Provides-Extra") or []
    for kind, spec in subject.plugin:
        hold(spec.summary and "\n" not in spec.summary, f"{spec.name} has no summary: say in one line what it is")
        hold(spec.license, f"{spec.name} names no license: give the SPDX id of code and weights, like 'Apache-2.0'")
        hold(
            SPDX.fullmatch(spec.license),
            f"{spec.name}: license {spec.license!r} is no SPDX expression: write 'MIT', 'Apache-2.0 AND CC-BY-4.0', "
            "'LicenseRef-…'",
        )
        hold(
            not spec.extra or spec.extra in extras,
            f"{spec.name} needs the extra {spec.extra!r}, but {subject.plugin.package} declares "
            f"{', '.join(extras) or 'none'}: add it to the package's optional dependencies",
        )
        for key in NAMES_A_CHECKPOINT if kind == "encoder" else ():
            model = spec.kwargs.get(key)
            pinned = isinstance(spec, EncoderSpec) and spec.weights is not None
            hold(
                pinned or not isinstance(model, str) or not HUB.fullmatch(model),
                f"{spec.name} loads {model} unpinned: give weights='org/repo@<40-hex revision>' in its spec",
            )


@check("plugin")
def targets_import(subject: Subject) -> None:
    """Every target imports, and is a class of its kind with nothing left abstract."""
    _loaded(subject)
    for kind, spec in subject.plugin:
        try:
            target = resolve(spec.target)
        except ImportError as error:
            if spec.extra:
                continue  # an extra that is not installed here
            raise Broken(f"{spec.name}: {spec.target} does not import: {diagnose(error)}") from error
        hold(isinstance(target, type), f"{spec.name}: {spec.target} is {target!r}: a class is expected")
        base = BASES.get(kind)
        fits = issubclass(target, base) if base else "__call__" in dir(target)
        wanted = f"a subclass of coembed's {base.__name__}" if base else "a class whose instances can be called"
        hold(fits, f"{spec.name}: {spec.target} is {target.__name__}: {wanted} is expected")
        missing = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
        hold(not inspect.isabstract(target), f"{spec.name}: {target.__name__} lacks {missing}: write them")


@check("plugin")
def agrees_with_registry(subject: Subject) -> None:
    """What registry.yaml says of a known plugin is what its specs say."""
    _loaded(subject)
    name, known = subject.plugin.name, registry.known()
    if name not in known:
        raise Inapplicable("not in registry.yaml")
    said = json.loads(json.dumps(registry.describe(plugins(), [name])["plugins"][name]["components"]))
    found = registry.differences(name, known[name].get("components") or {}, said)
    hold(not found, f"{'; '.join(found[:3])} ({len(found)} differences): run `coembed registry --write`")
