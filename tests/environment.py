"""Virtual environments of a test's own: nothing is downloaded, since third-party packages are those of the project."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

SITE = Path(sysconfig.get_paths()["purelib"])
SCRIPTS = {"pip": "pip", "coembed": "coembed.cli"}


class Environment:
    """A virtual environment that sees the project's packages.

    With `ours`, coembed and its plugins are among them, as the checkout has them; without, none is there until a wheel
    is installed.
    """

    def __init__(self, folder: Path, *, ours: bool) -> None:
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
        self.folder, self.bin = folder, folder / "bin"
        self.variables: dict[str, str] = {}  # more of what commands see
        self.python = self.bin / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.site = folder / "lib" / version / "site-packages"
        if ours:  # addsitedir, so that the .pth files of editable installs count too
            line = f"import site; site.addsitedir({str(SITE)!r})"
        else:
            line = str(_without_ours(folder / "third-party"))
        (self.site / "project.pth").write_text(f"{line}\n")
        for name, module in SCRIPTS.items() if ours else [("pip", "pip")]:
            script = self.bin / name
            script.write_text(f'#!/bin/sh\nexec "{self.python}" -m {module} "$@"\n')
            script.chmod(0o755)

    def run(self, *command: str | Path, cwd: Path, links: Path | None = None) -> str:
        """What a command prints, both streams together; an AssertionError shows it if the command fails."""
        keep = ("PYTHON", "COEMBED_", "PIP_", "VIRTUAL_ENV")
        env = {key: value for key, value in os.environ.items() if not key.startswith(keep)}
        env |= {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "COEMBED_CACHE": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",  # both streams in the order of a terminal
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # sic: to pip this says "no isolation", so that hatchling is found here
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        env |= self.variables | ({"PIP_FIND_LINKS": str(links)} if links is not None else {})
        words = [str(word) for word in command]
        done = subprocess.run(words, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout


def _without_ours(folder: Path) -> Path:
    """A folder of links to everything in the project's environment that is not coembed's."""
    ours = {dist.name.replace("-", "_") for dist in metadata.distributions() if dist.name.startswith("coembed")}
    folder.mkdir()
    for path in SITE.iterdir():
        # No .pth file: through them an editable checkout would come in again.
        if path.suffix != ".pth" and path.name.split("-")[0] not in ours and path.name != "__pycache__":
            (folder / path.name).symlink_to(path)
    return folder
