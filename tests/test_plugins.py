"""Discovery: one plugin at a time, each fault kept to itself and named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coembed import PluginError, load
from coembed.plugins import CORE, GROUP, Plugins, diagnose
from coembed.spec import KINDS, EncoderSpec, Spec, SpecError, resolve

FAKES = Path(__file__).parent / "fakes"
BROKEN = {
    "import-error": ("broken", "a_module_that_is_not_there"),
    "raises-in-hook": ("raises", "the hook itself fails"),
    "unknown-hook": ("unknown", "coembed_encoderz"),
    "wrong-prefix": ("wrong", "may only offer names that start with 'wrong/'"),
    "duplicate-spec": ("twice", "offered twice by coembed-duplicate"),
    "not-a-spec": ("dicts", "not EncoderSpec"),
    "exits": ("exits", "SystemExit"),
}


def test_a_good_plugin_lists_and_loads(fakes):
    plugin = fakes("good").plugin("good")
    assert (plugin.status, plugin.package, plugin.version) == ("ok", "coembed-good", "1.0")
    assert [spec.name for _, spec in plugin] == ["good/bytes", "good/small"]
    assert load("good/bytes").encode(["hi"]).dim == 16


@pytest.mark.parametrize("folder", BROKEN)
def test_a_broken_plugin_is_named_and_the_good_go_on(fakes, folder):
    name, cause = BROKEN[folder]
    view = fakes(folder, "good", "other")
    offered = {spec.name for _, _, spec in view.specs("encoder")}
    assert {"good/bytes", "other/bytes"} <= offered
    assert view.plugin(name).status == "failed"
    assert cause in diagnose(view.plugin(name).error)
    with pytest.raises(PluginError, match="failed to load") as raised:
        view.find(f"{name}/anything")
    assert raised.value.__cause__ is view.plugin(name).error, "the original traceback must stay reachable"
    assert load("good/small").dim == 8


def test_loading_one_name_imports_only_its_plugin(fakes):
    fakes("good", "other", "import-error")
    load("good/bytes")
    assert "fake_good" in sys.modules
    assert "fake_other" not in sys.modules


def test_two_packages_with_one_name_are_both_named(fakes):
    view = fakes("good", "same-name", "other")
    with pytest.raises(PluginError, match=r"coembed-good and coembed-impostor both claim 'good'"):
        view.find("good/bytes")
    assert view.plugin("other").status == "ok"


def test_the_environment_settles_a_clash(fakes, monkeypatch):
    monkeypatch.setenv("COEMBED_PLUGINS", "coembed-good")
    assert fakes("good", "same-name").plugin("good").package == "coembed-good"


def test_the_environment_decides_before_any_import(fakes, monkeypatch):
    monkeypatch.setenv("COEMBED_PLUGINS", "other")
    view = fakes("good", "other")
    assert view.plugin("good").status == "blocked"
    assert "fake_good" not in sys.modules
    with pytest.raises(PluginError, match="COEMBED_PLUGINS leaves it out"):
        view.find("good/bytes")
    monkeypatch.setenv("COEMBED_PLUGINS", "0")
    assert {plugin.status for name, plugin in Plugins().installed().items() if name != CORE} == {"blocked"}


def test_strict_raises_at_once(fakes, monkeypatch):
    monkeypatch.setenv("COEMBED_STRICT", "1")
    view = fakes("import-error")
    with pytest.raises(ModuleNotFoundError):
        view.plugin("broken")


def test_a_later_api_is_listed_and_never_imported(fakes):
    view = fakes("future-api", "good")
    assert view.plugin("future").status == "newer"
    with pytest.raises(PluginError, match=f"made for coembed.v2, this is {GROUP}: upgrade coembed"):
        view.find("future/anything")


def test_a_package_that_takes_anothers_name_is_refused(fakes, monkeypatch):
    monkeypatch.setattr("coembed.plugins.metadata.entry_points", _only("evil-text"))
    fakes("thief")
    with pytest.raises(PluginError, match=r"`text/` belongs to coembed-text, but evil-text claims it"):
        load("text/minilm")
    monkeypatch.setenv("COEMBED_PLUGINS", "evil-text")
    fakes()
    assert load("text/minilm").dim == 16, "naming the package is the user's consent"


def _only(package):
    """entry_points() of a machine where only one package is installed."""
    from importlib import metadata

    real = metadata.entry_points

    class Points(list):
        groups = frozenset({GROUP})

        def select(self, group):
            return [point for point in real(group=group) if point.dist.name == package]

    return Points


def test_a_missing_target_names_the_module(fakes):
    fakes("missing-target")
    with pytest.raises(PluginError, match="fake_nowhere"):
        load("missing/a")


def test_unknown_names_say_who_provides_them(fakes, monkeypatch):
    view = fakes("good")
    with pytest.raises(PluginError, match="did you mean good/bytes"):
        view.find("good/byte")
    with pytest.raises(PluginError, match="did you mean infonce"):
        view.find("infonec")
    with pytest.raises(PluginError, match="did you mean good"):
        view.find("godo/bytes")
    with pytest.raises(PluginError, match=r"did you mean text/minilm\?$"):  # without its prefix
        view.find("minilm")
    with pytest.raises(PluginError, match=r"did you mean text/minilm(?!.*text/minilm)"):  # named once
        view.find("text/minilmm")
    with pytest.raises(PluginError, match="no plugin provides 'nobody/x'"):
        view.find("nobody/x")
    monkeypatch.setattr("coembed.registry.known", lambda: _registry())
    with pytest.raises(PluginError, match=r"`rna/kmer` is provided by coembed-rna: run `coembed install rna`"):
        view.find("rna/kmer")
    with pytest.raises(PluginError, match="did you mean rna/kmer"):
        view.find("rna/kmre")


def _registry():
    return {"rna": {"package": "coembed-rna", "tier": "core", "components": {"encoder": {"rna/kmer": {}}}}}


def test_a_component_of_another_kind_is_refused():
    with pytest.raises(PluginError, match="linear is an aligner, but an objective is needed here"):
        load("linear", "objective", in_dim=2, out_dim=2)


def test_every_component_of_the_core_resolves():
    for kind, spec in Plugins().plugin(CORE):
        assert callable(resolve(spec.target)), f"{kind} {spec.name}"
        assert "/" not in spec.name


def test_call_arguments_go_over_the_specs_and_are_kept(fakes):
    fakes("good")
    encoder = load("good/small", blocks=1)
    assert dict(encoder.spec.kwargs) == {"seed": 1, "blocks": 1}
    assert len(encoder.blocks()) == 1


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"name": "Bad Name"}, "lower-case"),
        ({"target": "no colon"}, "is not 'module:Class'"),
        ({"dim": 0}, "must be positive"),
        ({"weights": "org/repo@main"}, "not pinned"),
        ({"output": "matrix"}, "neither 'vector'"),
        ({"matryoshka": (99,)}, "must lie in 1..8"),
    ],
)
def test_specs_refuse_what_breaks_the_rules(kwargs, message):
    with pytest.raises(SpecError, match=message):
        EncoderSpec(**{"name": "a/b", "target": "a:B", "modality": "text", "dim": 8, **kwargs})


def test_specs_are_json():
    import json

    spec = EncoderSpec(name="a/b", target="a:B", modality="text", dim=8, matryoshka=(2, 4), kwargs={"k": [1]})
    assert json.loads(json.dumps(spec.to_json()))["matryoshka"] == [2, 4]
    assert Spec(name="bare", target="a:B").to_json()["extra"] == ""


def test_resolve_names_what_is_missing():
    with pytest.raises(SpecError, match="has no Nothing"):
        resolve("fractions:Nothing")


def test_the_known_torch_fault_names_its_fix():
    error = RuntimeError("operator torchvision::nms does not exist")
    assert "constraints.txt" in diagnose(error)


def test_hooks_are_seven_with_examples():
    from coembed import hookspecs

    hooks = [name for name in vars(hookspecs) if name.startswith("coembed_")]
    assert sorted(hooks) == sorted(kind.hook for kind in KINDS.values())
    assert len(hooks) == 7
    assert all(">>>" in getattr(hookspecs, hook).__doc__ for hook in hooks)


HEAVY = ("torch", "numpy", "transformers", "pydantic", "yaml", "pluggy", "rich", "tokenizers", "safetensors")


@pytest.mark.parametrize("code", ["import coembed", "from coembed.cli import main; main(['--help'])"])
def test_start_up_imports_nothing_heavy(code):
    report = f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    run = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n{report}"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_plugin_inits_are_light():
    """Every installed plugin's entry point imports nothing heavy, each in a fresh interpreter."""
    heavy = ("torch", "numpy", "transformers", "PIL", "Bio", "torchaudio", "open_clip", "timm", "yaml", "pandas")
    for name, plugin in Plugins().installed().items():
        if name == CORE or plugin.status != "installed":
            continue
        code = f"import sys, {plugin.module}; print([m for m in {heavy!r} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == "[]", f"{plugin.package}: {done.stdout}{done.stderr}"


def test_a_heavy_import_is_found(fakes):
    path = FAKES / "heavy-import"
    code = f"import sys; sys.path.insert(0, {str(path)!r}); import fake_heavy_import; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
