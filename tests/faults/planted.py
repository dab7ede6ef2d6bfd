"""The table of faults, and how one becomes an installed plugin."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAME, PACKAGE, COMPONENT = "faulty", "coembed-faulty", "faulty/it"
ANY = ("*",)  # for `also`: the fault is so broad that other checks may or may not fail

HOOKS = {
    "encoder": "coembed_encoders",
    "aligner": "coembed_aligners",
    "objective": "coembed_objectives",
    "pretext": "coembed_pretexts",
    "source": "coembed_sources",
    "index": "coembed_indexes",
    "eval": "coembed_evals",
}
SPEC = {"summary": "A test component.", "license": "MIT"}
ENCODER = {
    "modality": "text",
    "dim": 16,
    "layers": 2,
    "matryoshka": (4, 8),
    "prompts": {"query": "query: ", "document": "document: "},
}


@dataclass(frozen=True)
class Fault:
    """One planted fault: the check that it breaks, words of the message, and other checks that it breaks as well."""

    kind: str
    breaks: str
    says: str
    name: str
    target: str = ""
    also: Collection[str] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # of a fault in the package: its modules

    def __str__(self) -> str:
        return f"{self.kind}-{self.breaks}-{self.name}"


FAULTS: list[Fault] = []


def breaks(kind: str, check: str, says: str, *, also: Collection[str] = (), **spec: Any) -> Any:
    """Register a class as a fault; keyword arguments go into its spec."""

    def register(cls: type) -> type:
        target = f"{cls.__module__}:{cls.__name__}"
        FAULTS.append(Fault(kind, check, says, _label(cls, spec), target, also, spec))
        return cls

    return register


def _label(cls: type, spec: Mapping[str, Any]) -> str:
    more = "-".join(str(value) for value in spec.get("kwargs", {}).values())
    return f"{cls.__name__}-{more}" if more else cls.__name__


def modules(components: Collection[tuple[str, str, str, Mapping[str, Any]]]) -> dict[str, str]:
    """The entry module of a plugin that offers (kind, name, target, spec) components."""
    lines = ["from coembed import EncoderSpec, Spec, hookimpl", ""]
    for kind, hook in HOOKS.items():
        mine = [
            {**SPEC, **(ENCODER if kind == "encoder" else {}), "name": name, "target": target, **spec}
            for of, name, target, spec in components
            if of == kind
        ]
        if mine:
            word = "EncoderSpec" if kind == "encoder" else "Spec"
            lines += ["@hookimpl", f"def {hook}():", *(f"    yield {word}(**{facts!r})" for facts in mine), ""]
    return {"faulty_plugin": "\n".join(lines)}


def install(folder: Path, files: Mapping[str, str]) -> None:
    """Write modules and the dist-info that makes them an installed plugin."""
    info = folder / "coembed_faulty-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[coembed.v1]\n{NAME} = faulty_plugin\n")
    for name, code in files.items():
        (folder / f"{name}.py").write_text(code)
