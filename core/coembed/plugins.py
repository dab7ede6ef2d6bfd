"""Discovery: which plugins are installed, what each offers, and why one failed. Knows no torch.

Five rules. The entry-point group is the API version, and the entry point's name owns the prefix. Loading a name
imports that one entry point. Each plugin loads in its own try, and its error is raised only to whoever asks for it.
Two packages with one name are an error that names both. Entry points say what is installed, specs what is offered,
registry.yaml what is known.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from coembed.spec import KINDS, EncoderSpec, Spec, SpecError, resolve

if TYPE_CHECKING:
    from pluggy import PluginManager

GROUP = "coembed.v1"
CORE = "core"


class CoembedWarning(UserWarning):
    """What coembed warns of; one class, so that a program can silence or raise it."""


class PluginError(Exception):
    """A plugin or a name that can't be had; the message says which, why and what to do."""


@dataclass
class Plugin:
    """One installed plugin and, once loaded, what it offers or why it failed.

    `status` is "installed" (not loaded yet), "ok", "failed", "clash" (two packages claim the name), "blocked" (left out
    by COEMBED_PLUGINS) or "newer" (made for a later API).
    """

    name: str
    package: str
    version: str
    module: str
    status: str = "installed"
    specs: dict[str, tuple[Spec, ...]] = field(default_factory=dict)
    error: BaseException | None = None

    def __iter__(self) -> Iterator[tuple[str, Spec]]:
        return ((kind, spec) for kind, specs in self.specs.items() for spec in specs)

    def find(self, name: str) -> tuple[str, Spec] | None:
        """The kind and spec of a component of this plugin, or None."""
        return next((pair for pair in self if pair[1].name == name), None)


def diagnose(error: BaseException) -> str:
    """A failure's cause in one line, with the fix where it is known.

    >>> diagnose(ModuleNotFoundError("No module named 'Bio'", name="Bio"))
    "ModuleNotFoundError: No module named 'Bio'; install it, or reinstall the plugin with its dependencies"
    """
    text = " ".join(str(error).split()) or "no message"
    line = f"{type(error).__name__}: {text[:300]}"
    if "torchvision::nms" in text or "libtorch" in text or ("CUDA version" in text and "torch" in text):
        return f"{line}; torch, torchvision and torchaudio do not match: install the three that constraints.txt pins"
    if isinstance(error, ModuleNotFoundError):
        return f"{line}; install it, or reinstall the plugin with its dependencies"
    if isinstance(error, (ImportError, AttributeError)) and "coembed" in text:
        return f"{line}; the plugin expects another coembed: upgrade both"
    return line


class Plugins:
    """The installed plugins, each loaded at most once and only when asked for.

    Reads COEMBED_PLUGINS (entry points or packages that may load; unset or empty: all, "0": none) and COEMBED_STRICT
    (anything but empty and "0": a failing plugin raises at once) when made.
    """

    def __init__(self) -> None:
        allowed = os.environ.get("COEMBED_PLUGINS", "")
        self._allowed = {part.strip() for part in allowed.split(",")} - {"0"} if allowed.strip() else None
        self._strict = os.environ.get("COEMBED_STRICT", "0") not in ("", "0")
        self._found: dict[str, list[metadata.EntryPoint]] | None = None
        self._plugins: dict[str, Plugin] = {}
        self._manager: PluginManager | None = None

    def installed(self) -> dict[str, Plugin]:
        """Every plugin by entry-point name, without importing any."""
        if self._found is None:
            self._found = {}
            everything = metadata.entry_points()
            for group in sorted(everything.groups):
                for point in everything.select(group=group) if group.startswith("coembed.v") else ():
                    self._found.setdefault(point.name, []).append(point)
            for name, points in sorted(self._found.items()):
                self._plugins[name] = self._describe(name, points)
            self._plugins[CORE] = Plugin(CORE, "coembed", metadata.version("coembed"), "coembed.builtin")
        return dict(self._plugins)

    def _describe(self, name: str, points: list[metadata.EntryPoint]) -> Plugin:
        """What is known of an entry point before any import; COEMBED_PLUGINS decides here, so it can settle a clash."""
        if name == CORE:
            packages = ", ".join(_package(point) for point in points)
            return Plugin(CORE, packages, "", "", "clash", error=PluginError(f"{packages} claims the core's own name"))
        may = [p for p in points if self._allowed is None or {name, _package(p)} & self._allowed]
        # A package named by itself beats one that is only let in by the shared entry-point name.
        may = [p for p in may if self._allowed and _package(p) in self._allowed] or may
        current = [p for p in may if p.group == GROUP]
        point = (current or may or points)[0]
        plugin = Plugin(name, _package(point), point.dist.version if point.dist else "", point.value)
        if not may:
            plugin.status, reason = "blocked", f"COEMBED_PLUGINS leaves it out; add {name} to the list"
        elif not current:
            plugin.status, reason = "newer", f"made for {point.group}, this is {GROUP}: upgrade coembed"
        elif len({_package(p) for p in current}) > 1:
            packages = " and ".join(sorted({_package(p) for p in current}))
            plugin.package, plugin.version, plugin.status = packages, "", "clash"
            reason = f"{packages} both claim {name!r}: uninstall one, or name the wanted package in COEMBED_PLUGINS"
        else:
            return plugin
        plugin.error = PluginError(f"plugin {name} ({plugin.package}): {reason}")
        return plugin

    def plugin(self, name: str) -> Plugin:
        """One plugin, loaded: imports its entry point and reads its specs; a failure is kept, not raised.

        Raises PluginError if no installed plugin has that name, or, under COEMBED_STRICT, if it failed.
        """
        plugin = self.installed().get(name)
        if plugin is None:
            raise PluginError(f"no plugin {name!r} is installed; installed: {', '.join(self.installed()) or 'none'}")
        if plugin.status == "installed":
            self._load(plugin)
        if plugin.error is not None and self._strict:
            raise plugin.error
        return plugin

    def _load(self, plugin: Plugin) -> None:
        module: ModuleType | None = None
        try:
            module = self._import(plugin)
            manager = self._pluggy()
            manager.register(module, plugin.name)
            manager.check_pending()
            plugin.specs = self._read(plugin, module)
            plugin.status = "ok"
        except (Exception, SystemExit) as error:  # whatever a stranger's code raises must not stop its neighbours
            plugin.status, plugin.error = "failed", error
            if module is not None and self._manager is not None and self._manager.is_registered(module):
                self._manager.unregister(module)

    def _import(self, plugin: Plugin) -> ModuleType:
        import importlib

        if plugin.name == CORE:
            return importlib.import_module("coembed.builtin")
        assert self._found is not None
        points = [p for p in self._found[plugin.name] if p.group == GROUP and _package(p) == plugin.package]
        module: ModuleType = points[0].load()
        return module

    def _pluggy(self) -> PluginManager:
        if self._manager is None:
            import pluggy

            from coembed import hookspecs

            self._manager = pluggy.PluginManager("coembed")
            self._manager.add_hookspecs(hookspecs)
        return self._manager

    def _read(self, plugin: Plugin, module: ModuleType) -> dict[str, tuple[Spec, ...]]:
        """Call this plugin's hooks one by one: pluggy would stop all plugins at the first exception."""
        specs: dict[str, tuple[Spec, ...]] = {}
        seen: set[str] = set()
        callers = {caller.name: caller for caller in self._pluggy().get_hookcallers(module) or []}
        for kind, facts in KINDS.items():
            if facts.hook not in callers:
                continue
            impl = next(impl for impl in callers[facts.hook].get_hookimpls() if impl.plugin is module)
            yielded: tuple[Any, ...] = tuple(cast(Iterable[Any], impl.function()))
            for spec in yielded:
                _validate(plugin, kind, spec, seen)
                seen.add(spec.name)
            specs[kind] = yielded
        return specs

    def specs(self, kind: str | None = None) -> list[tuple[Plugin, str, Spec]]:
        """Every component of every plugin that loads, as (plugin, kind, spec); those that fail are left out."""
        return [
            (plugin, of, spec)
            for plugin in map(self.plugin, self.installed())
            for of, spec in plugin
            if kind is None or of == kind
        ]

    def find(self, name: str, kind: str | None = None) -> tuple[Plugin, str, Spec]:
        """The plugin, kind and spec behind a component's name; imports that plugin alone.

        Raises PluginError saying who provides the name, what is near it, or why its plugin failed.
        """
        prefix = name.partition("/")[0] if "/" in name else CORE
        plugin = self.plugin(prefix) if prefix in self.installed() else None
        if plugin is not None and plugin.error is not None:
            if isinstance(plugin.error, PluginError):
                raise plugin.error
            what = f"{name} needs plugin {plugin.name} ({plugin.package} {plugin.version}), which failed to load"
            raise PluginError(f"{what}: {diagnose(plugin.error)}") from plugin.error
        found = plugin.find(name) if plugin else None
        if plugin is None or found is None:
            from coembed import registry

            offered = [spec.name for _, spec in plugin] if plugin else []
            there = [prefix for prefix in self.installed() if prefix != CORE]
            raise PluginError(registry.explain(name, plugin.package if plugin else None, offered, there))
        if kind is not None and found[0] != kind:
            raise PluginError(f"{name} is {KINDS[found[0]].word}, but {KINDS[kind].word} is needed here")
        return plugin, *found


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "unknown package"


def _validate(plugin: Plugin, kind: str, spec: object, seen: set[str]) -> None:
    """Rules that need the plugin's name; a spec's own rules hold since it was made."""
    wanted = EncoderSpec if kind == "encoder" else Spec
    if not isinstance(spec, wanted):
        raise SpecError(f"{KINDS[kind].hook} of {plugin.name} yielded {spec!r}, not {wanted.__name__}")
    if plugin.name == CORE:
        if "/" in spec.name:
            raise SpecError(f"{spec.name}: the core's own components have bare names")
    elif not spec.name.startswith(f"{plugin.name}/"):
        raise SpecError(f"{spec.name}: plugin {plugin.name} may only offer names that start with '{plugin.name}/'")
    if spec.name in seen:
        raise SpecError(f"{spec.name} is offered twice by {plugin.package}")


@functools.cache
def plugins() -> Plugins:
    """The one Plugins of this process."""
    return Plugins()


def load(name: str, /, expect: str | None = None, **kwargs: Any) -> Any:
    """Build a registered component by name: `load("dna/kmer", k=6)`.

    Keyword arguments go over those of the spec. An encoder is called as `Class(spec, **kwargs)`, with the merged
    arguments in `spec.kwargs`, so that a saved space can build it again; every other kind as `Class(**kwargs)`, with
    the merged spec left on it as `.spec`. `expect` names the kind that is wanted ("encoder", "objective", …).
    Raises PluginError for a name that is unknown, of another kind, not its package's to own, or whose plugin failed,
    TypeError for an argument that is missing or that the component does not take.

    >>> load("infonce", temperature=0.05).spec.name
    'infonce'
    """
    target, kind, spec = locate(name, expect, kwargs)
    from coembed.arguments import call

    if kind == "encoder":
        return call(name, target, spec.kwargs, spec)
    component = call(name, target, spec.kwargs)
    component.spec = spec
    return component


def locate(name: str, expect: str | None, kwargs: Mapping[str, Any]) -> tuple[type[Any], str, Spec]:
    """The class behind a name, its kind, and its spec with the given arguments over its own; raises as `load`.

    >>> locate("infonce", "objective", {})[0].__name__
    'InfoNCE'
    """
    plugin, kind, spec = plugins().find(name, expect)
    if plugin.name != CORE:
        from coembed import registry

        registry.check_owner(plugin)
    try:
        target = resolve(spec.target)
    except ImportError as error:
        extra = f"; {name} needs pip install '{plugin.package}[{spec.extra}]'" if spec.extra else ""
        raise PluginError(f"{name}: {diagnose(error)}{extra}") from error
    return target, kind, replace(spec, kwargs={**spec.kwargs, **kwargs})


def build(kind: str, given: Any, /, **kwargs: Any) -> Any:
    """A component from a name, or the object itself: wherever Python takes a name it takes an object too.

    >>> build("objective", "infonce").spec.name
    'infonce'
    """
    if isinstance(given, type):
        raise TypeError(f"{KINDS[kind].word} is expected, got the class {given.__name__}: call it, or give its name")
    return load(given, kind, **kwargs) if isinstance(given, str) else given
