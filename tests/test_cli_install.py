"""`coembed install` and `uninstall`: names, plans, and the torch that stays; with a fake pip and with the real one."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import coembed
from coembed import install
from coembed.cli import main
from coembed.install import Change, InstallError, Result, requirement

KNOWN = {
    "dna": {"package": "coembed-dna", "tier": "core", "components": {"encoder": {"dna/kmer": {}}}},
    "text": {"package": "coembed-text", "tier": "core", "components": {}},
}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr("coembed.registry.known", lambda: KNOWN)


class FakePip:
    """A pip that plans what it is told to plan, and writes down what it was asked."""

    def __init__(self, plan=(), fails=None):
        self.plan, self.fails, self.calls = plan, fails, []

    def __call__(self, arguments):
        arguments = list(arguments)
        pinned = Path(arguments[arguments.index("-c") + 1]).read_text() if "-c" in arguments else ""
        self.calls.append((arguments, pinned))
        if self.fails is not None:
            return self.fails
        if "--report" in arguments:
            entries = [{"metadata": {"name": name, "version": version}} for name, version in self.plan]
            Path(arguments[arguments.index("--report") + 1]).write_text(json.dumps({"install": entries}))
        return Result(0, "", "")


@pytest.fixture
def versions(monkeypatch):
    found = {"torch": "2.11.0+cpu", "torchvision": "0.26.0", "torchaudio": "2.11.0", "numpy": "2.0.0"}
    monkeypatch.setattr(install, "there", found.get)
    return found


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("dna", "coembed-dna"),
        ("dna/kmer", "coembed-dna"),
        ("coembed-dna", "coembed-dna"),
        ("Coembed_DNA", "coembed-dna"),
        ("dna[fasta]", "coembed-dna[fasta]"),
        ("dna>=0.2", "coembed-dna>=0.2"),
    ],
)
def test_names_become_packages(asked, wanted):
    assert requirement(asked) == wanted


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("dan", "did you mean dna"),
        ("smell", "registry.yaml knows no plugin 'smell'; To install a package"),
        ("dna/kmre", "lists no 'dna/kmre'; did you mean dna/kmer"),
        ("nobody/x", "no plugin provides 'nobody/x'"),
        ("--index-url=http://x", "is not the name of"),
        ("git+https://x/y", "is not the name of"),
        ("a b", "is not the name of"),
    ],
)
def test_other_names_are_refused_with_the_way_out(asked, message):
    with pytest.raises(InstallError, match=message):
        requirement(asked)


def test_any_takes_a_full_package_name_and_guesses_nothing():
    assert requirement("coembed-peptide==1.2", anything=True) == "coembed-peptide==1.2"
    assert requirement("dan", anything=True) == "dan"
    with pytest.raises(InstallError):
        requirement("nobody/x", anything=True)
    with pytest.raises(InstallError):
        requirement("--pre", anything=True)


def test_the_plan_is_made_with_the_three_pinned(versions):
    pip = FakePip([("coembed-dna", "0.1.0"), ("numpy", "2.1.0")])
    changes = install.plan(["coembed-dna"], run=pip)
    assert changes == [Change("coembed-dna", None, "0.1.0"), Change("numpy", "2.0.0", "2.1.0")]
    arguments, pinned = pip.calls[0]
    assert "--dry-run" in arguments and arguments[-1] == "coembed-dna"
    assert pinned.splitlines() == ["torch==2.11.0+cpu", "torchvision==0.26.0", "torchaudio==2.11.0"]


def test_a_companion_that_is_not_there_is_tied_to_torch(versions):
    del versions["torchaudio"]
    assert install.pins()[-1] == "torchaudio==2.11.*"
    assert install.plan(["x"], run=FakePip([("torchaudio", "2.11.0")])) == [Change("torchaudio", None, "2.11.0")]


@pytest.mark.parametrize("package", ["torch", "TorchVision", "torchaudio"])
def test_a_plan_that_touches_one_of_the_three_is_refused(versions, package):
    pip = FakePip([("coembed-dna", "0.1.0"), (package, "9.9")])
    versions.setdefault(package, versions[package.lower()])
    with pytest.raises(InstallError, match=f"refused, since it would replace {package} .* -> 9.9; nothing was changed"):
        install.plan(["coembed-dna"], run=pip)
    assert len(pip.calls) == 1


def test_a_conflict_says_what_holds_it_and_who_wants_else(versions):
    out = (
        "The conflict is caused by:\n    coembed-dna 1 depends on torch==9.9\n    The user requested (constraint) torch"
    )
    fails = Result(1, out + "==2.11.0+cpu\n", "ERROR: Cannot install coembed-dna==1 because of conflicts.\n")
    with pytest.raises(
        InstallError, match=r"keeps torch==2.11.0\+cpu, .*coembed-dna 1 depends on torch==9.9\. Nothing"
    ):
        install.plan(["coembed-dna"], run=FakePip(fails=fails))


@pytest.mark.parametrize(
    ("err", "message"),
    [
        ("ERROR: Could not find a version\nERROR: No matching distribution found for x", "No matching distribution"),
        (f"{sys.executable}: No module named pip", "this Python has no pip: run `.* -m ensurepip`"),
        ("", "it gave no reason"),
    ],
)
def test_what_pip_says_becomes_one_line(versions, err, message):
    with pytest.raises(InstallError, match=message) as raised:
        install.plan(["x"], run=FakePip(fails=Result(1, "", err)))
    assert "\n" not in str(raised.value)


def test_an_old_pip_is_named(versions):
    with pytest.raises(InstallError, match=r"pip 22.2 or newer"):
        install.plan(["x"], run=lambda arguments: Result(0, "", ""))


def test_exactly_the_plan_is_installed(versions):
    pip = FakePip()
    install.install(["coembed-dna"], [Change("coembed-dna", None, "0.1.0")], run=pip)
    arguments, pinned = pip.calls[0]
    assert "--dry-run" not in arguments
    assert pinned.splitlines()[-1] == "coembed-dna==0.1.0" and pinned.startswith("torch==2.11.0+cpu\n")


def test_the_command_asks_first(versions, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(install, "plan", lambda asked, upgrade: [Change("coembed-dna", None, "0.1.0")])
    monkeypatch.setattr(install, "install", lambda *given, **more: calls.append(given))
    assert main(["install", "dna"]) == 1
    captured = capsys.readouterr()
    assert "nobody is there to confirm it: give --yes" in captured.err
    assert re.search(r"coembed-dna\s+–\s+0.1.0", captured.out)
    assert main(["install", "dna", "--dry-run"]) == 0
    assert calls == []
    assert main(["install", "dna", "--yes", "--json"]) == 0
    assert len(calls) == 1
    monkeypatch.setattr(install, "plan", lambda asked, upgrade: [])
    assert main(["install", "dna"]) == 0
    assert "coembed-dna: there already" in capsys.readouterr().err


def test_uninstalling_takes_plugins_only(fakes, monkeypatch, capsys):
    fakes("good", "other", "same-name")
    calls = []
    monkeypatch.setattr(install, "uninstall", lambda packages: calls.append(packages))
    assert main(["uninstall", "other/bytes", "coembed-other", "--yes", "--json"]) == 0
    assert calls == [["coembed-other"]]
    assert json.loads(capsys.readouterr().out)["changes"] == [{"package": "coembed-other", "old": "1.0", "new": None}]
    for name, message in [
        ("good", "good is claimed by coembed-good and coembed-impostor: name the package"),
        ("coembed", "coembed is no plugin; every plugin needs it"),
        ("torch", "torch is no plugin; every plugin needs it"),
        ("numpy", "numpy is no plugin of coembed; --any"),
        ("nothing-of-that-name", "nothing-of-that-name: not installed; installed plugins: "),
    ]:
        assert main(["uninstall", name, "--yes"]) == 1
        assert message in capsys.readouterr().err
    assert main(["uninstall", "coembed-impostor", "--any", "--yes"]) == 0
    assert calls[1:] == [["coembed-impostor"]]


def wheel(folder, name, version, requires=(), entry=""):
    """A wheel with one module, as small as pip takes it."""
    module, facts = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    files = {
        f"{module}.py": entry and "from coembed import hookimpl\n",
        f"{facts}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {one}\n" for one in requires),
        f"{facts}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if entry:
        files[f"{facts}/entry_points.txt"] = f"[coembed.v1]\n{entry} = {module}\n"
    sums = {
        path: base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b"=") for path, t in files.items()
    }
    record = "".join(f"{path},sha256={sums[path].decode()},{len(text)}\n" for path, text in files.items())
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**files, f"{facts}/RECORD": f"{record}{facts}/RECORD,,\n"}.items():
            archive.writestr(path, text)


def test_with_the_real_pip_in_an_environment_of_its_own(tmp_path):
    """Installed from a folder of wheels; one that wants another torch changes nothing."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "coembed-tiny", "1.0", ["torch", "tiny-helper"], entry="tiny")
    wheel(wheels, "tiny-helper", "2.0")
    wheel(wheels, "coembed-swap", "1.0", ["torch==99.0"], entry="swap")
    wheel(wheels, "torch", "99.0")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    paths = [sysconfig.get_path("purelib"), str(Path(coembed.__file__).parents[1])]
    env = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PYTHONPATH": os.pathsep.join(paths)}

    def run(*arguments):
        command = [str(python), "-m", "coembed.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)

    def plugins():
        return {row["name"]: row for row in json.loads(run("plugins", "--json").stdout)["plugins"]}

    done = run("install", "--any", "--yes", "--json", "coembed-tiny")
    assert done.returncode == 0, done.stderr
    assert sorted((c["package"], c["old"], c["new"]) for c in json.loads(done.stdout)["changes"]) == [
        ("coembed-tiny", None, "1.0"),
        ("tiny-helper", None, "2.0"),
    ]
    assert plugins()["tiny"]["package"] == "coembed-tiny"
    refused = run("install", "--any", "--yes", "coembed-swap")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.search(r"refused, .* keeps torch==.*coembed-swap 1.0 depends on torch==99.0", refused.stderr)
    assert "swap" not in plugins()
    gone = run("uninstall", "tiny", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert "tiny" not in plugins()
