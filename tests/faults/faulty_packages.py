"""Faults of a plugin as a whole, as the code of its modules."""

from __future__ import annotations

from planted import FAULTS, Fault

HEAD = "from coembed import EncoderSpec, Spec, hookimpl\n"
TOY = "coembed.testing.toy:ToyEncoder"


def _spec(**facts: object) -> str:
    whole = {"name": "faulty/it", "modality": "text", "dim": 16, "target": TOY, "layers": 2, "license": "MIT"}
    return f"EncoderSpec(**{ {**whole, 'summary': 'A test encoder.', **facts}!r})"


def _hook(*lines: str) -> str:
    return HEAD + "\n@hookimpl\ndef coembed_encoders():\n" + "".join(f"    {line}\n" for line in lines)


def _yields(**facts: object) -> str:
    return _hook(f"yield {_spec(**facts)}")


def _model(statement: str) -> dict[str, str]:
    """A plugin whose heavy module runs a statement as it is imported."""
    model = "import os, random, warnings\nimport numpy, torch\nfrom coembed.testing import ToyEncoder\n\n"
    return {
        "faulty_plugin": _yields(target="faulty_model:Model"),
        "faulty_model": f"{model}{statement}\n\nclass Model(ToyEncoder):\n    pass\n",
    }


PLANTED = [
    ("loads", "may only offer names that start with 'faulty/'", "wrong-prefix", _yields(name="other/it")),
    ("loads", "is offered twice", "twice", _hook(f"yield {_spec()}", f"yield {_spec(dim=8)}")),
    ("loads", "not EncoderSpec", "not-a-spec", _hook("yield {'name': 'faulty/it'}")),
    ("loads", "coembed_encoderz", "unknown-hook", _yields().replace("coembed_encoders", "coembed_encoderz")),
    ("loads", "install it", "import-error", "import a_module_that_is_not_there\n"),
    ("loads", "the hook itself fails", "raising-hook", _hook("raise RuntimeError('the hook itself fails')")),
    ("loads", "SystemExit", "exit", "raise SystemExit(3)\n"),
    ("loads", "not pinned", "unpinned-format", _yields(weights="org/repo@main")),
    ("light_import", "torch, and every", "heavy-module", "import torch\n" + _yields()),
    ("light_import", "torch, and every", "heavy-hook", _hook("import torch", f"yield {_spec()}")),
    ("light_import", "can't load faulty: SystemExit", "only-here", _hook(
        "import sys", "if 'pytest' not in sys.modules: sys.exit('SystemExit')", f"yield {_spec()}"
    )),
    ("specs_are_json", "set is not JSON", "set", _yields(kwargs={"words": {"a"}})),
    ("specs_are_json", "not tuples", "tuple", _yields(kwargs={"blocks": (2, 3)})),
    ("specs_are_complete", "no license", "no-license", _yields(license="")),
    ("specs_are_complete", "no SPDX expression", "prose-license", _yields(license="see the LICENSE file!")),
    ("specs_are_complete", "no summary", "no-summary", _yields(summary="")),
    ("specs_are_complete", "unpinned", "unpinned", _yields(kwargs={"model": "org/repo"})),
    ("specs_are_complete", "needs the extra 'gpu'", "unknown-extra", _yields(extra="gpu")),
    ("targets_import", "does not import", "missing-module", _yields(target="faulty_nowhere:Gone")),
    ("targets_import", "has no Gone", "missing-class", _yields(target="coembed.testing.toy:Gone")),
    ("targets_import", "a class is expected", "function", _yields(target="coembed.testing.toy:toy_encoder")),
    ("targets_import", "a subclass of coembed's Encoder", "other-kind", _yields(target="coembed.aligner:Linear")),
    ("targets_import", "lacks collate", "abstract", _yields(target="coembed.encoder:Encoder")),
    ("agrees_with_registry", "registry.yaml says 99", "other-dim", _yields()),  # the test plants the registry
]  # fmt: skip
IMPORTS = [
    ("environment", "the environment (FAULTY)", "os.environ['FAULTY'] = '1'"),
    ("filters", "the warning filters", "warnings.filterwarnings('ignore')"),
    ("dtype", "torch's default dtype", "torch.set_default_dtype(torch.float64)"),
    ("threads", "torch's thread count", "torch.set_num_threads(1)"),
    ("seed", "torch's random state", "torch.manual_seed(0)"),
    ("python-seed", "Python's random state", "random.seed(0)"),
    ("numpy-seed", "NumPy's random state", "numpy.random.seed(0)"),
    ("grad", "torch's grad mode", "torch.set_grad_enabled(False)"),
]

FAULTS += [Fault("plugin", check, says, name, files={"faulty_plugin": code}) for check, says, name, code in PLANTED]
FAULTS += [
    Fault("plugin", "imports_change_nothing", says, name, files=_model(statement)) for name, says, statement in IMPORTS
]
