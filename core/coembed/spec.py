"""Specs: the cheap facts by which a component is listed, compared and found. Standard library only."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*(/[a-z0-9][a-z0-9._+-]*)?")
WEIGHTS = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class SpecError(ValueError):
    """A spec that breaks the rules; the message names the spec, the field and the fix."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Facts about one component; reading them imports nothing.

    `name` is `<entry point>/<name>` (bare names belong to the core), `target` is `"module:Class"`, `kwargs` go to the
    class, `license` is an SPDX id of code and weights together, `extra` names the pip extra that the component needs.
    Raises SpecError for a malformed name or target.

    >>> Spec(name="demo/mean", target="demo.heads:Mean", license="MIT").to_json()["target"]
    'demo.heads:Mean'
    """

    name: str
    target: str
    summary: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""
    extra: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise SpecError(f"spec name {self.name!r}: use lower-case letters, digits, '.', '_', '-', like 'dna/kmer'")
        if not isinstance(self.target, str) or not TARGET.fullmatch(self.target):
            raise SpecError(f"spec {self.name}: target {self.target!r} is not 'module:Class'")

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON types.

        >>> Spec(name="demo/mean", target="demo:Mean").to_json()["kwargs"]
        {}
        """
        # asdict would deep-copy objects that an in-memory spec may carry; JSON types survive it unchanged.
        data = asdict(replace(self, kwargs=dict(self.kwargs)))
        return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}


@dataclass(frozen=True, kw_only=True)
class EncoderSpec(Spec):
    """Facts about an encoder.

    `modality` is an open word ("text", "peptide-ms2"); `dim` is the pooled width (None: known once built, as for
    "any checkpoint" encoders); `output` says whether pooling gives one vector or one a token; `matryoshka` lists the
    widths it was trained to be cut to; `layers` how many early exits it has; `prompts` maps a role to its prefix;
    `weights` pins a checkpoint as `org/repo@<40-hex revision>`. Raises SpecError naming the field that is wrong.

    >>> spec = EncoderSpec(name="dna/kmer", modality="dna", dim=256, target="coembed_dna.kmer:Kmer", license="MIT")
    >>> spec.output, spec.matryoshka
    ('vector', ())
    """

    modality: str
    dim: int | None
    output: Literal["vector", "multivector"] = "vector"
    matryoshka: tuple[int, ...] = ()
    layers: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim is not None and self.dim < 1:
            raise SpecError(f"encoder {self.name}: dim {self.dim} must be positive, or None where a checkpoint decides")
        if self.output not in ("vector", "multivector"):
            raise SpecError(f"encoder {self.name}: output {self.output!r} is neither 'vector' nor 'multivector'")
        if self.weights is not None and not WEIGHTS.fullmatch(self.weights):
            raise SpecError(f"encoder {self.name}: weights {self.weights!r} are not pinned; write org/repo@<40-hex>")
        if any(size < 1 or (self.dim is not None and size > self.dim) for size in self.matryoshka):
            raise SpecError(f"encoder {self.name}: matryoshka sizes {self.matryoshka} must lie in 1..{self.dim}")

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON types.

        >>> EncoderSpec(name="a/b", modality="text", dim=8, target="a:B").to_json()["dim"]
        8
        """
        return super().to_json()


@dataclass(frozen=True)
class Kind:
    """One kind of component: its hook, and the words that messages use for it."""

    hook: str
    word: str


KINDS: dict[str, Kind] = {
    word: Kind(hook=f"coembed_{plural}", word=f"{article} {word}")
    for word, plural, article in [
        ("encoder", "encoders", "an"),
        ("aligner", "aligners", "an"),
        ("objective", "objectives", "an"),
        ("pretext", "pretexts", "a"),
        ("source", "sources", "a"),
        ("index", "indexes", "an"),
        ("eval", "evals", "an"),
    ]
}


def resolve(target: str) -> Any:
    """Import what a target string names.

    Raises SpecError if the string is malformed or the module lacks the attribute; an ImportError of the module itself
    passes through, since its cause is what the reader needs.

    >>> resolve("fractions:Fraction")(1, 2)
    Fraction(1, 2)
    """
    if not TARGET.fullmatch(target):
        raise SpecError(f"target {target!r} is not 'module:Class'")
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise SpecError(f"target {target!r}: module {module} has no {attribute}") from error
