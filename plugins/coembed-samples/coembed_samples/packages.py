"""Packages by name: their ordinary clients download them, without root, and their members are read, not installed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_SECONDS = 1800  # the largest package has 120 MB
_AR_MAGIC = b"!<arch>\n"

# What a client says when it fails, and what is to be done about it.
_HINTS = (
    ("unable to locate package", "this distribution does not have it, or its lists are old: sudo apt-get update"),
    ("can't find a source to download", "the lists of packages are old or empty: sudo apt-get update"),
    ("e404", "the registry that npm is set up for does not have it"),
    ("etarget", "the registry that npm is set up for does not have this version"),
    ("enotfound", "no network, or npm's registry is not reached"),
    ("failed to fetch", "no network, or the package has moved on: sudo apt-get update"),
    ("temporary failure", "no network"),
)


class FetchError(RuntimeError):
    """A package that can't be had or read; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Package:
    """A downloaded package: its file, and the name and version that its own metadata give."""

    client: str
    path: Path
    name: str
    version: str

    def sha256(self) -> str:
        """The digest of the package's file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def members(self) -> Iterator[tuple[str, BinaryIO]]:
        """Path in the package and content of each regular file; links, devices and folders are passed over.

        Raises FetchError for a file that is no such package.
        """
        with _opened(self.path, "data") if self.client == "deb" else _npm_tar(self.path) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is not None:
                    yield member.name.removeprefix("./"), content  # type: ignore[misc]


def deb(name: str, folder: Path, version: str = "") -> Package:
    """Download a Debian package into an empty folder, as `apt-get download` does for anyone.

    Raises FetchError without apt-get, or if it fails.
    """
    _run(["apt-get", "download", f"{name}={version}" if version else name], folder, "a system with Debian's packages")
    path = _only(folder, "*.deb", name)
    with _opened(path, "control") as tar:
        files = (tar.extractfile(m) for m in tar if m.name.removeprefix("./") == "control")
        content = next((file.read() for file in files if file is not None), b"")
    fields = dict(line.partition(": ")[::2] for line in content.decode("utf-8").splitlines() if line[:1].isalpha())
    if not {"Package", "Version"} <= fields.keys():
        raise FetchError(f"{path.name} is no Debian package: its control file names no package and version")
    return Package("deb", path, fields["Package"], fields["Version"])


def npm(name: str, folder: Path, version: str = "") -> Package:
    """Download an npm package into an empty folder, as `npm pack` does, without its dependencies or scripts.

    Raises FetchError without npm, or if it fails.
    """
    _run(["npm", "pack", "--ignore-scripts", f"{name}@{version}" if version else name], folder, "Node.js and npm")
    path = _only(folder, "*.tgz", name)
    with _npm_tar(path) as tar:
        files = (tar.extractfile(m) for m in tar if m.name == "package/package.json")
        content = next((file.read() for file in files if file is not None), b"{}")
    facts = json.loads(content)
    if not {"name", "version"} <= facts.keys():
        raise FetchError(f"{path.name} is no npm package: its package.json gives no name and version")
    return Package("npm", path, facts["name"], facts["version"])


#: client -> its download
CLIENTS: dict[str, Callable[[str, Path, str], Package]] = {"deb": deb, "npm": npm}


def _run(command: Sequence[str], folder: Path, needs: str) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise FetchError(f"there is no {command[0]} here, so {command[-1]} can't be had this way: it needs {needs}")
    environment = {**os.environ, "LC_ALL": "C"}  # its messages are looked at below
    try:
        done = subprocess.run(
            [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"{' '.join(command)} did not run: {error}") from error
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}"
        hint = next((hint for words, hint in _HINTS if words in said.lower()), "")
        last = "; ".join([line.strip() for line in said.splitlines() if line.strip()][-3:])
        raise FetchError(f"{' '.join(command)} failed{f': {hint}' if hint else ''} ({last or 'it said nothing'})")


def _only(folder: Path, pattern: str, name: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise FetchError(f"downloading {name} left {len(found)} files {pattern}, one was expected")
    return found[0]


@contextmanager
def _npm_tar(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:gz") as tar:
            yield tar
    except (tarfile.TarError, EOFError) as error:
        raise FetchError(f"{path.name} is no npm package: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")


@contextmanager
def _opened(path: Path, part: str) -> Iterator[tarfile.TarFile]:
    """The archive "control" or "data" in a Debian package."""
    try:
        if shutil.which("dpkg-deb"):  # knows every compression that Debian has used
            option = "--ctrl-tarfile" if part == "control" else "--fsys-tarfile"
            command = ["dpkg-deb", option, str(path)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                assert process.stdout is not None
                try:
                    with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                        yield tar
                finally:
                    process.kill()  # whoever has found its member reads no further
        else:
            with tarfile.open(fileobj=io.BytesIO(_ar_member(path, f"{part}.tar")), mode="r:*") as tar:
                yield tar
    except (tarfile.TarError, EOFError) as error:
        without = "" if shutil.which("dpkg-deb") else "; dpkg-deb is not here, and Python reads gz, xz and bz2 only"
        raise FetchError(f"{path.name}: its {part} can't be read: {_first_line(error)}{without}") from error


def _ar_member(path: Path, prefix: str) -> bytes:
    """The first member of an ar archive whose name begins so; a Debian package is one: version, control, data."""
    with path.open("rb") as file:
        if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise FetchError(f"{path.name} is no Debian package: it does not begin as an ar archive")
        while len(header := file.read(60)) == 60:
            size = int(header[48:58])
            if header[:16].decode("latin-1").startswith(prefix):
                return file.read(size)
            file.seek(size + size % 2, os.SEEK_CUR)
    raise FetchError(f"{path.name} is no Debian package: it has no {prefix}")
