"""registry.yaml: the plugins that are known and who may own a name. It makes nothing loadable. Knows no torch.

Read only when a name is missing, when a component is built (who may own the prefix), or by commands that list or
install: parsing costs more than the rest of start-up.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coembed.plugins import Plugin, Plugins

TIERS = ("core", "verified", "community")


def path() -> Path:
    """Where registry.yaml is: beside this file in a wheel, at the top of an editable checkout."""
    inside = Path(__file__).with_name("registry.yaml")
    return inside if inside.exists() else Path(__file__).parents[2] / "registry.yaml"


@functools.cache
def known() -> Mapping[str, Mapping[str, Any]]:
    """The known plugins by entry-point name: package, tier, licence and components.

    >>> known()["text"]["package"]
    'coembed-text'
    """
    import yaml

    data = yaml.safe_load(path().read_text(encoding="utf-8"))
    plugins: Mapping[str, Mapping[str, Any]] = data["plugins"]
    return plugins


def components() -> dict[str, str]:
    """Every known component's name and the plugin that offers it."""
    return {
        name: plugin
        for plugin, facts in known().items()
        for names in facts.get("components", {}).values()
        for name in names
    }


def near(name: str, names: Sequence[str], most: int = 3) -> list[str]:
    """The names that look like this one, best first.

    >>> near("dna/kmre", ["dna/kmer", "text/hf", "dna/kmer"])
    ['dna/kmer']
    """
    return difflib.get_close_matches(name, dict.fromkeys(names), n=most, cutoff=0.6)


def explain(name: str, package: str | None, offered: Sequence[str], installed: Sequence[str] = ()) -> str:
    """Why a name can't be had and what to do: install its package, or one of the near names.

    `package` is the installed plugin that owns the prefix (None: no such plugin), `offered` what it offers, `installed`
    the prefixes that are there.
    """
    prefix = name.partition("/")[0]
    everything = components()
    if package is None and name in everything:
        return f"`{name}` is provided by {known()[prefix]['package']}: run `coembed install {prefix}`"
    close = near(name, [*offered, *everything, *known()]) or near(prefix, [*known(), *installed])
    close = close or [full for full in everything if full.partition("/")[2] == name]  # "emoji" is samples/emoji
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    if package is not None:
        listing = ", ".join(offered) or "nothing"
        return f"{package} has no component {name!r}{hint or f'; it offers {listing}'}"
    if prefix in known():
        return f"{known()[prefix]['package']}, which owns `{prefix}/`, lists no {name!r}{hint}"
    return f"no plugin provides {name!r}{hint or '; see `coembed list --all`'}"


def check_owner(plugin: Plugin) -> None:
    """Refuse a package that claims a prefix which registry.yaml gives to another.

    Naming the package in COEMBED_PLUGINS is the user's consent. Raises PluginError.
    """
    import os

    from coembed.plugins import PluginError

    owner = known().get(plugin.name, {}).get("package", plugin.package)
    consent = {part.strip() for part in os.environ.get("COEMBED_PLUGINS", "").split(",")}
    if plugin.package != owner and plugin.package not in consent:
        raise PluginError(
            f"`{plugin.name}/` belongs to {owner}, but {plugin.package} claims it: uninstall {plugin.package}, "
            f"or set COEMBED_PLUGINS={plugin.package} if you trust it"
        )


def describe(plugins: Plugins, names: Sequence[str]) -> dict[str, Any]:
    """What registry.yaml should say of the named installed plugins, from their specs.

    Tiers are kept from the present file: a person grants them, no spec can.
    """
    entries: dict[str, Any] = {}
    for name in sorted(names):
        plugin = plugins.plugin(name)
        listed: dict[str, dict[str, Any]] = {}
        for kind, spec in plugin:
            facts = spec.to_json()
            keys = ("modality", "dim", "output", "license", "weights") if kind == "encoder" else ("license",)
            listed.setdefault(kind, {})[spec.name] = {key: facts[key] for key in keys}
        tier = known().get(name, {}).get("tier", "community")
        entries[name] = {"package": plugin.package, "tier": tier, "components": listed}
    return {"api": 1, "plugins": entries}


def differences(plugin: str, listed: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where the file and the specs disagree, one line each.

    >>> differences("a", {"encoder": {"a/b": {"dim": 8}}}, {"encoder": {"a/b": {"dim": 16}}})
    ['a/b: dim is 16, registry.yaml says 8']
    """
    lines = []
    for kind in dict.fromkeys([*listed, *now]):
        before, after = listed.get(kind) or {}, now.get(kind) or {}
        lines += [
            f"{name}: {plugin} offers this {kind}, registry.yaml does not list it"
            for name in after
            if name not in before
        ]
        lines += [
            f"{name}: registry.yaml lists this {kind}, {plugin} does not offer it"
            for name in before
            if name not in after
        ]
        for name in (name for name in after if name in before):
            for key in dict.fromkeys([*before[name], *after[name]]):
                old, new = before[name].get(key), after[name].get(key)
                if old != new:
                    lines.append(f"{name}: {key} is {new}, registry.yaml says {old}")
    return lines
