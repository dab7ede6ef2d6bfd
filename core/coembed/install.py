"""Installing plugins by pip, in the running interpreter, without ever replacing the torch that is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

KEPT = ("torch", "torchvision", "torchaudio")  # built for each other: one of another build breaks the imports of all
NAME = re.compile(r"(?P<name>[A-Za-z0-9]([\w./-]*[A-Za-z0-9])?)(?P<rest>(\[[\w,. -]+\])?\s*([<>=!~][^;@]*)?)")


class InstallError(Exception):
    """An installation that was refused or that pip could not do; the message says why and what to do."""


@dataclass(frozen=True)
class Result:
    """What pip said."""

    code: int
    out: str
    err: str


Pip = Callable[[Sequence[str]], Result]


@dataclass(frozen=True)
class Change:
    """One package of a plan: what is there now (None: nothing) and what would be."""

    package: str
    old: str | None
    new: str


def pip(arguments: Sequence[str]) -> Result:
    """Run pip of the running interpreter; what it prints is kept, not shown."""
    done = subprocess.run(_command(arguments), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def pip_shown(arguments: Sequence[str]) -> Result:
    """As `pip`, with its progress on standard error: an installation may take minutes."""
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    done = subprocess.run(_command(arguments), stdout=2, stderr=pipe, text=True, stdin=nothing, check=False)
    return Result(done.returncode, "", done.stderr)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]


def normal(name: str) -> str:
    """A package name as pip compares it.

    >>> normal("Coembed_DNA")
    'coembed-dna'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement(asked: str, *, anything: bool = False) -> str:
    """What to ask pip for: by a plugin's name, a component's, or a known package's, each with extras or a version.

    `anything` lets a full package name through that registry.yaml does not know. Raises InstallError for any other.

    >>> requirement("text"), requirement("coembed-text[minilm]")
    ('coembed-text', 'coembed-text[minilm]')
    """
    from coembed import registry

    match = NAME.fullmatch(asked.strip())
    if match is None:
        raise InstallError(f"{asked!r} is not the name of a plugin, a component or a package")
    name, rest = match["name"], match["rest"].strip()
    packages = {plugin: str(facts["package"]) for plugin, facts in registry.known().items()}
    components = registry.components()
    if name in packages:
        return packages[name] + rest
    if name in components:
        return packages[components[name]] + rest
    if normal(name) in map(normal, packages.values()):
        return normal(name) + rest
    if anything and "/" not in name:
        return name + rest
    if "/" in name:
        raise InstallError(registry.explain(name, None, []))
    close = registry.near(name, [*packages, *packages.values()])
    hint = f"did you mean {' or '.join(close)}? Or, to" if close else "To"
    raise InstallError(
        f"registry.yaml knows no plugin {name!r}; {hint} install a package that it does not list, give the package's "
        "full name and --any"
    )


def there(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def pins() -> list[str]:
    """Constraints that keep torch and its companions as they are.

    A companion that is not there is tied to the release of torch: pip would take the newest, whose build does not
    fit, and torchaudio does not say so itself.
    """
    found = {package: version for package in KEPT if (version := there(package)) is not None}
    lines = [f"{package}=={version}" for package, version in found.items()]
    if "torch" in found and "torchaudio" not in found:
        lines.append(f"torchaudio=={'.'.join(found['torch'].split('+')[0].split('.')[:2])}.*")
    return lines


@contextmanager
def constraints(lines: Sequence[str]) -> Iterator[Path]:
    """A file of constraints for the time of one pip call."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "constraints.txt"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        yield path


def plan(requirements: Sequence[str], *, upgrade: bool = False, run: Pip = pip) -> list[Change]:
    """What installing would change, by pip's dry run.

    Raises InstallError if pip finds no way that keeps torch and its companions, or would touch them all the same.
    """
    with constraints(pins()) as path:
        report = path.with_name("report.json")
        more = ["--upgrade"] if upgrade else []
        result = run(["install", *more, "--dry-run", "--report", str(report), "-c", str(path), *requirements])
        if result.code != 0:
            raise InstallError(_failed(result))
        try:
            entries: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
            found = [(str(entry["metadata"]["name"]), str(entry["metadata"]["version"])) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InstallError(f"pip's report can't be read ({error}): pip 22.2 or newer is needed") from error
    changes = [Change(name, there(name), version) for name, version in found]
    touched = [change for change in changes if normal(change.package) in KEPT and change.old is not None]
    if touched:
        what = ", ".join(f"{change.package} {change.old} -> {change.new}" for change in touched)
        raise InstallError(f"refused, since it would replace {what}; nothing was changed")
    return changes


def install(
    requirements: Sequence[str], changes: Sequence[Change], *, upgrade: bool = False, run: Pip = pip_shown
) -> None:
    """Install exactly the plan that was shown; raises InstallError with pip's reason."""
    with constraints([*pins(), *(f"{change.package}=={change.new}" for change in changes)]) as path:
        result = run(["install", *(["--upgrade"] if upgrade else []), "-c", str(path), *requirements])
    if result.code != 0:
        raise InstallError(_failed(result))


def uninstall(packages: Sequence[str], *, run: Pip = pip) -> None:
    """Uninstall packages; raises InstallError with pip's reason."""
    result = run(["uninstall", "--yes", *packages])
    if result.code != 0:
        raise InstallError(_failed(result))


def installed_package(asked: str, *, anything: bool = False) -> str:
    """The installed package behind a plugin's, a component's or a package's name.

    Raises InstallError if it is not there, is coembed itself, or, without `anything`, brings no plugin.
    """
    from coembed.plugins import CORE, plugins

    here = {name: plugin.package for name, plugin in plugins().installed().items() if name != CORE}
    prefix = asked.partition("/")[0]
    package = here.get(prefix, asked)
    if " and " in package:  # two packages claim the name
        raise InstallError(f"{prefix} is claimed by {package}: name the package that shall go, with --any")
    if normal(package) == "coembed" or normal(package) in KEPT:
        raise InstallError(f"{package} is no plugin; every plugin needs it, so it stays")
    if there(package) is None:
        raise InstallError(f"{asked}: not installed; installed plugins: {', '.join(here) or 'none'}")
    if not anything and normal(package) not in map(normal, here.values()):
        raise InstallError(f"{package} is no plugin of coembed; --any uninstalls it all the same")
    return package


def _failed(result: Result) -> str:
    """Pip's reason in one line, with the fix where it is known."""
    if "No module named pip" in result.err:
        return f"this Python has no pip: run `{sys.executable} -m ensurepip` first"
    lines = [line.strip() for line in result.err.splitlines()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    why = " ".join(errors) or " ".join(filter(None, lines)) or "it gave no reason"
    if re.search(rf"\(constraint\) ({'|'.join(KEPT)})\b", result.out + result.err):
        causes = [line.strip() for line in result.out.splitlines() if " depends on " in line]
        return (
            f"refused, since nothing that can be installed keeps {', '.join(pins())}: "
            f"{'; '.join(dict.fromkeys(causes)) or why}. Nothing was changed"
        )
    return f"pip failed and nothing was changed: {why}"
