"""Every check of the conformance kit fails on a plugin with that fault, and holds on one without."""

from __future__ import annotations

import importlib
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from coembed import plugins, registry
from coembed.plugins import PluginError
from coembed.testing import Result, cases, conformance, run
from coembed.testing.cases import checks
from coembed.testing.subject import CHECKS

sys.path.insert(0, str(Path(__file__).with_name("faults")))
planted = importlib.import_module("planted")
for path in sorted(Path(__file__).with_name("faults").glob("faulty_*.py")):
    importlib.import_module(path.stem)
FAULTS = planted.FAULTS
GOOD = [
    ("encoder", "faulty/toy", "coembed.testing.toy:ToyEncoder", {}),
    ("encoder", "faulty/multi", "coembed.testing.toy:ToyEncoder", {"output": "multivector"}),
    ("aligner", "faulty/linear", "coembed.aligner:Linear", {}),
    ("objective", "faulty/infonce", "coembed.objectives:InfoNCE", {"kwargs": {"temperature": 0.2}}),
    ("objective", "faulty/distance", "faulty_objectives:Distance", {}),
    ("pretext", "faulty/next", "faulty_pretexts:NextByte", {}),
    ("source", "faulty/pairs", "faulty_sources:Pairs", {}),
    ("index", "faulty/it", "faulty_indexes:Right", {}),
    ("index", "faulty/approximate", "faulty_indexes:Approximate", {}),
    ("eval", "faulty/retrieval", "coembed.evaluation:Retrieval", {}),
]

Plant = Callable[[Mapping[str, str]], None]


@pytest.fixture
def plant(tmp_path, monkeypatch) -> Iterator[Plant]:
    """plant(files) installs a plugin of these modules; `cases("faulty")` then gives its cases."""

    def install(files: Mapping[str, str]) -> None:
        planted.install(tmp_path / "site", files)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        plugins.plugins.cache_clear()

    yield install
    plugins.plugins.cache_clear()
    os.environ.pop("FAULTY", None)
    for name in ("faulty_plugin", "faulty_model", "faulty_library"):
        sys.modules.pop(name, None)


def results(kind: str) -> dict[str, Result]:
    return {case.check: run(case) for case in cases("faulty") if case.kind == kind}


def listed(dim: int) -> dict:
    """A registry.yaml that knows the planted plugin."""
    facts = {"modality": "text", "dim": dim, "output": "vector", "license": "MIT", "weights": None}
    return {
        "faulty": {"package": "coembed-faulty", "tier": "community", "components": {"encoder": {"faulty/it": facts}}}
    }


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_is_found(fault, plant, monkeypatch):
    component = (fault.kind, planted.COMPONENT, fault.target, fault.spec)
    plant(fault.files or planted.modules([component]))
    if fault.breaks == "agrees_with_registry":
        monkeypatch.setattr(registry, "known", lambda: listed(dim=99))
    found = results(fault.kind)
    broken = found[fault.breaks]
    assert broken.status == "failed", f"{fault.breaks} holds on {fault.name}"
    assert fault.says in broken.reason
    others = {check for check, result in found.items() if result.status == "failed"} - {fault.breaks}
    if fault.also != planted.ANY:
        assert others == set(fault.also), {check: found[check].reason for check in others}


def test_every_check_has_a_planted_fault():
    checks("plugin")  # registers them
    kit = {(kind, function.__name__) for kind, functions in CHECKS.items() for function in functions}
    assert {(fault.kind, fault.breaks) for fault in FAULTS} == kit
    assert len({str(fault) for fault in FAULTS}) == len(FAULTS)


def test_a_good_plugin_passes_every_check(plant, monkeypatch):
    plant(planted.modules(GOOD))
    found = registry.describe(plugins.plugins(), ["faulty"])["plugins"]
    monkeypatch.setattr(registry, "known", lambda: found)
    done = [run(case) for case in cases("faulty")]
    assert not [f"{r.case.id}: {r.reason}" for r in done if r.status == "failed"]
    held = {(result.case.kind, result.case.check) for result in done if result.status == "ok"}
    kit = {(kind, function.__name__) for kind, functions in CHECKS.items() for function in functions}
    assert held == kit, "each check is claimed by some good component"


def child(code: str, *flags: str) -> str:
    """What a fresh interpreter prints that sees the planted plugin."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, *flags, "-c", code], env=env, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


def test_cases_hold_in_any_order(plant):
    plant(planted.modules(GOOD))
    found = list(cases("faulty"))
    random.Random(0).shuffle(found)
    assert not [result for result in map(run, found) if result.status == "failed"]


LAZY = """
from coembed.testing import ToyEncoder

class Model(ToyEncoder):
    @classmethod
    def tiny(cls, spec):
        import faulty_library
        return super().tiny(spec)
"""
LIBRARY = "import os, warnings; os.environ['FAULTY'] = '1'; warnings.simplefilter('ignore')"


@pytest.mark.parametrize("check", ["leaves_settings_alone", "imports_change_nothing"])
def test_what_a_library_sets_on_first_use_is_not_the_components_doing(check, plant):
    files = planted.modules([("encoder", planted.COMPONENT, "faulty_model:Model", {})])
    plant({**files, "faulty_model": LAZY, "faulty_library": LIBRARY})
    code = f"from coembed.testing import cases, run; print(*[run(c) for c in cases('faulty') if c.check == {check!r}])"
    assert "status='ok'" in child(code), "as the first and only case of a process"
    done = [run(case) for case in cases("faulty")]
    assert {result.case.check: result.status for result in done}[check] == "ok", "after others"


def test_checks_hold_under_python_o(plant):
    plant(planted.modules([("encoder", planted.COMPONENT, "faulty_promises:IgnoresPrompts", {})]))
    code = "from coembed.testing import cases, run; print(*(run(c).status for c in cases('faulty') if 'roles' in c.id))"
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True
    )
    assert done.stdout.decode().strip() == "failed"


TESTS = """
from coembed.testing import conformance

test_all = conformance("faulty")
test_known = conformance("faulty", xfail={"faulty/it-honours_roles": "prompts come later"})
test_wide = conformance("faulty", xfail={"honours_roles": "prompts come later", "adds_up": "not yet"})
"""


def test_authors_get_one_pytest_case_a_component_and_check(plant, tmp_path):
    plant(
        planted.modules(
            [
                ("encoder", "faulty/toy", "coembed.testing.toy:ToyEncoder", {}),
                ("encoder", planted.COMPONENT, "faulty_promises:IgnoresPrompts", {}),
                ("objective", "faulty/infonce", "coembed.objectives:InfoNCE", {}),
            ]
        )
    )
    (tmp_path / "test_faulty.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-rA", "-q", "-p", "no:cacheprovider", "-k", "honours_roles or adds_up"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    out = subprocess.run([*command, "test_faulty.py"], cwd=tmp_path, env=env, capture_output=True, text=True).stdout
    said = {name: word for word, name in re.findall(r"^(PASSED|FAILED|XFAIL) \S+::(\S+)", out, flags=re.M)}
    assert said == {
        "test_all[faulty/toy-honours_roles]": "PASSED",
        "test_all[faulty/it-honours_roles]": "FAILED",
        "test_all[faulty/infonce-adds_up]": "PASSED",
        "test_known[faulty/toy-honours_roles]": "PASSED",
        "test_known[faulty/it-honours_roles]": "XFAIL",
        "test_known[faulty/infonce-adds_up]": "PASSED",
        "test_wide[faulty/toy-honours_roles]": "FAILED",  # strict: it holds
        "test_wide[faulty/it-honours_roles]": "XFAIL",
    }, out
    assert "1 skipped" in out, "what is not claimed does not end a strict xfail"
    assert "role 'query' changes nothing" in out and "[XPASS(strict)] prompts come later" in out


def test_xfail_must_name_a_case_and_the_plugin_be_there(plant):
    plant(planted.modules(GOOD))
    with pytest.raises(ValueError, match="xfail names honour_roles; the checks on faulty are loads, light_import"):
        conformance("faulty", xfail={"honour_roles": "a typo"})
    with pytest.raises(PluginError, match="no plugin 'nowhere' is installed"):
        conformance("nowhere")


def test_the_kit_imports_without_pytest():
    code = (
        "import sys; sys.modules['pytest'] = None; from coembed import testing; print(next(testing.cases('core')).id)"
    )
    assert child(code) == "core-loads"


def test_a_component_whose_extra_is_missing_is_skipped(plant):
    spec = {"extra": "gpu", "target": "faulty_model:Model"}
    files = planted.modules([("encoder", planted.COMPONENT, "faulty_model:Model", spec)])
    plant({**files, "faulty_model": "import a_module_that_is_not_there\n"})
    found = results("encoder")
    assert {result.status for result in found.values()} == {"-"} and all(result.missing for result in found.values())
    assert "needs pip install 'coembed-faulty[gpu]'" in found["exits_early"].reason
    assert results("plugin")["targets_import"].status == "ok"
