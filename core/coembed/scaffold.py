"""What `coembed new` writes: a package with one encoder, from the template that ships inside the core."""

from __future__ import annotations

import datetime
import keyword
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Literal, get_args

from coembed import registry
from coembed.install import normal
from coembed.plugins import CORE, plugins

Items = Literal["strings", "rows"]

TEMPLATE = Path(__file__).with_name("template")
WORD = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
PACKAGE = re.compile(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?")
STRINGS = ("text", "code", "dna", "protein")  # modalities whose items every other encoder takes as `str`

# file of the package -> file of the template; both may hold placeholders
FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    "$module/__init__.py": "package/__init__.py",
    "$module/model.py": "package/model_$items.py",
    "$module/py.typed": "package/py.typed",
    "tests/test_conformance.py": "tests/test_conformance.py",
}


class ScaffoldError(ValueError):
    """A package that can't be made as asked; the message says which value, why and what to do."""


@dataclass(frozen=True)
class Scaffold:
    """A package to be: its plugin's name, the modality of its encoder, and what it is called.

    `items` says what an item is: "strings", or "rows" of numbers (peaks, frames, points). Raises ScaffoldError for a
    name that can't be an entry point, belongs to somebody else, or would hide another package.

    >>> one = Scaffold("peptide-ms2", "peptide-ms2", "coembed-peptide-ms2", "rows")
    >>> one.module, one.cls
    ('coembed_peptide_ms2', 'PeptideMs2Encoder')
    """

    name: str
    modality: str
    package: str
    items: Items

    def __post_init__(self) -> None:
        for what, word in (("name", self.name), ("modality", self.modality)):
            if not WORD.fullmatch(word):
                raise ScaffoldError(
                    f"{what} {word!r}: use lower-case letters, digits and single '-' or '_', a letter first, "
                    "like peptide or peptide-ms2"
                )
        if self.items not in get_args(Items):
            raise ScaffoldError(f"items {self.items!r}: use {' or '.join(get_args(Items))}")
        self._check_owner()
        self._check_package()

    def _check_owner(self) -> None:
        if self.name == CORE:
            raise ScaffoldError(f"name {self.name!r} is the core's own: choose another")
        owner = registry.known().get(self.name, {}).get("package")
        here = plugins().installed().get(self.name)
        if owner is not None and owner != self.package:
            raise ScaffoldError(f"name {self.name!r} is reserved for {owner} by registry.yaml: choose another")
        if here is not None and normal(here.package) != normal(self.package):
            raise ScaffoldError(f"name {self.name!r} is taken by {here.package}, which is installed: choose another")

    def _check_package(self) -> None:
        if not PACKAGE.fullmatch(self.package):
            raise ScaffoldError(
                f"package {self.package!r}: use letters, digits and '-', '_', '.', a letter first, like coembed-peptide"
            )
        module = self.module
        if not module.isidentifier() or keyword.iskeyword(module) or module in {*sys.stdlib_module_names, "coembed"}:
            raise ScaffoldError(f"package {self.package!r} would be imported as {module}, which Python or coembed uses")
        try:
            points = metadata.distribution(self.package).entry_points
        except metadata.PackageNotFoundError:
            return
        if self.name not in {point.name for point in points}:
            raise ScaffoldError(f"package {self.package!r} is installed here and does not bring {self.name!r}: rename")

    @property
    def module(self) -> str:
        """What Python imports."""
        return re.sub(r"[-_.]+", "_", self.package).lower()

    @property
    def cls(self) -> str:
        """The encoder's class."""
        return "".join(part.capitalize() for part in re.split("[-_]", self.name)) + "Encoder"

    def write(self, folder: Path) -> list[Path]:
        """Write the package into a folder that is not there or empty; returns the files, relative to it.

        Raises ScaffoldError if the folder holds anything: nothing is ever overwritten.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ScaffoldError(f"{folder} exists and is not an empty folder: remove it, or give another --out")
        facts = {
            "name": self.name,
            "modality": self.modality,
            "package": self.package,
            "items": self.items,
            "module": self.module,
            "cls": self.cls,
            "year": str(datetime.date.today().year),
        }
        written = []
        for target, origin in FILES.items():
            path = Path(Template(target).substitute(facts))
            text = (TEMPLATE / f"{Template(origin).substitute(facts)}.tmpl").read_text(encoding="utf-8")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(Template(text).substitute(facts), encoding="utf-8")
            written.append(path)
        return written


def items_of(modality: str) -> Items:
    """What an item of a modality is, unless the author says otherwise.

    >>> items_of("text"), items_of("peptide-ms2")
    ('strings', 'rows')
    """
    return "strings" if modality in STRINGS else "rows"
