"""Fetched sets: packages read, folders made whole or not at all, and every failure told."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from coembed_samples import fetch, packages
from coembed_samples.command import main
from coembed_samples.fetch import NOTE, FetchError, NotFetched
from coembed_samples.sets import SETS

FASTA = "usr/share/doc/bowtie/examples/genomes/NC_008253.fna.gz"
COPYRIGHT = "usr/share/doc/bowtie-examples/copyright"


def tarred(files: dict[str, bytes], mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            tar.addfile(facts, io.BytesIO(content))
    return out.getvalue()


def deb(files: dict[str, bytes], version: str = "9.9-1", name: str = "bowtie-examples", packing: str = "xz") -> bytes:
    """A Debian package as bytes: an ar archive of three members."""
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nDescription: made by a test\n and more\n"
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar.{packing}": tarred({"./control": control.encode()}, f"w:{packing}"),
        f"data.tar.{packing}": tarred({f"./{path}": content for path, content in files.items()}, f"w:{packing}"),
    }
    whole = b"!<arch>\n"
    for member, content in members.items():
        whole += f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        whole += content + b"\n" * (len(content) % 2)
    return whole


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("COEMBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


Serve = Callable[..., None]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """serve({"bowtie-examples": bytes}) puts an `apt-get` and an `npm` on the path that know these packages alone."""
    programs = tmp_path / "programs"
    programs.mkdir()
    tools = {name: path for name in ("dpkg-deb", "xz") if (path := shutil.which(name))}

    def install(known: dict[str, bytes], *, dpkg: bool = True) -> None:
        for name, content in known.items():
            (programs / f"{name.replace('/', '-')}.package").write_bytes(content)
        text = f"""#!{sys.executable}
import shutil, sys
from pathlib import Path
name = (sys.argv[-1].rpartition("@")[0] or sys.argv[-1]).replace("/", "-")
held = Path({str(programs)!r}) / (name + ".package")
if not held.is_file():
    sys.exit("E: Unable to locate package " + name)
shutil.copy(held, name + {{"apt-get": "_1_all.deb", "npm": "-1.tgz"}}[Path(sys.argv[0]).name])
"""
        for program in ("apt-get", "npm"):
            (programs / program).write_text(text, "utf-8")
            (programs / program).chmod(0o755)
        for name, path in tools.items() if dpkg else ():
            (programs / name).unlink(missing_ok=True)
            (programs / name).symlink_to(path)
        monkeypatch.setenv("PATH", str(programs))

    return install


def genome(letters: int = 100) -> dict[str, bytes]:
    import gzip

    return {FASTA: gzip.compress(b">g\n" + b"ACGT" * (letters // 4)), COPYRIGHT: b"public", "usr/share/other": b"no"}


@pytest.mark.parametrize("dpkg", [True, False])
def test_a_debian_package_becomes_a_folder(serve: Serve, cache: Path, dpkg: bool) -> None:
    serve({"bowtie-examples": deb(genome())}, dpkg=dpkg)
    said: list[str] = []
    path = fetch.fetch("ecoli536", say=said.append)
    assert path == cache / "samples" / "ecoli536" == fetch.folder("ecoli536")
    assert {file.name for file in path.iterdir()} == {"NC_008253.fna.gz", "copyright-bowtie-examples", NOTE}
    note = fetch.note("ecoli536")
    assert note is not None and note["counts"] == {"NC_008253": 100}
    (package,) = note["packages"]
    assert (package["name"], package["version"], len(package["sha256"])) == ("bowtie-examples", "9.9-1", 64)
    assert any("NC_008253 has 100, 4,938,920 when this was written" in line for line in said)
    assert [file.name for file in path.parent.iterdir()] == ["ecoli536"]  # nothing of the work is left


def test_it_is_fetched_again_only_when_asked(serve: Serve) -> None:
    serve({"bowtie-examples": deb(genome())})
    fetch.fetch("ecoli536")
    serve({"bowtie-examples": deb(genome(200), "10")})
    said: list[str] = []
    fetch.fetch("ecoli536", say=said.append)
    assert said == ["ecoli536: there already, bowtie-examples 9.9-1"]
    assert fetch.fetch("ecoli536", again=True) == fetch.folder("ecoli536")
    note = fetch.note("ecoli536")
    assert note is not None and note["counts"] == {"NC_008253": 200} and note["packages"][0]["version"] == "10"


def test_a_failure_leaves_what_was_there(serve: Serve, cache: Path) -> None:
    serve({"bowtie-examples": deb(genome())})
    fetch.fetch("ecoli536")
    before = fetch.note("ecoli536")
    serve({"bowtie-examples": deb({COPYRIGHT: b"only"}, "11")})
    with pytest.raises(FetchError, match=r"bowtie-examples 11 holds no file .*fna.*its layout is another"):
        fetch.fetch("ecoli536", again=True)
    assert fetch.note("ecoli536") == before
    assert [file.name for file in (cache / "samples").iterdir()] == ["ecoli536"]


def test_npm_packages_by_their_pins(serve: Serve) -> None:
    lucide = {
        "package/package.json": json.dumps({"name": "lucide-static", "version": "1.62.0"}).encode(),
        "package/LICENSE": b"ISC",
        "package/tags.json": json.dumps({"heart": ["love"], "bare": []}).encode(),
        "package/icons/heart.svg": b"<svg/>",
        "package/icons/../../escape.svg": b"<svg/>",
    }
    awesome = {
        "package/package.json": json.dumps({"name": "@fortawesome/fontawesome-free", "version": "7.0.0"}).encode(),
        "package/LICENSE.txt": b"CC BY",
        "package/metadata/icon-families.json": json.dumps({"star": {"search": {"terms": ["sky"]}}}).encode(),
        "package/svgs-full/solid/star.svg": b"<svg/>",
    }
    serve({"lucide-static": tarred(lucide, "w:gz")})
    with pytest.raises(FetchError, match="fontawesome-free"):
        fetch.fetch("icons")
    serve({"@fortawesome/fontawesome-free": tarred(awesome, "w:gz")})
    path = fetch.fetch("icons")
    assert (path / "lucide" / "heart.svg").is_file() and (path / "fontawesome" / "solid" / "star.svg").is_file()
    assert not list(path.parent.rglob("escape.svg"))
    note = fetch.note("icons")
    assert note is not None and note["counts"] == {"lucide": 1, "fontawesome": 1} and len(note["differs"]) == 2


def test_what_cannot_be_had_is_told(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve({})
    with pytest.raises(
        FetchError, match=r"apt-get download bowtie-examples failed: .*apt-get update.*Unable to locate"
    ):
        fetch.fetch("ecoli536")
    serve({"bowtie-examples": b"not a package"})
    with pytest.raises(FetchError, match=r"bowtie-examples_1_all\.deb"):
        fetch.fetch("ecoli536")
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    with pytest.raises(FetchError, match=r"there is no apt-get here.*Debian"):
        fetch.fetch("ecoli536")
    with pytest.raises(FetchError, match=r"there is no npm here.*Node"):
        fetch.fetch("icons")
    with pytest.raises(ValueError, match="there is no set 'genome' to fetch: choose one of genomes"):
        fetch.fetch("genome")


def test_without_dpkg_an_unknown_packing_names_what_is_missing(serve: Serve, tmp_path: Path) -> None:
    broken = deb(genome()).replace(b"data.tar.xz ", b"data.tar.zst").replace(b"\xfd7zXZ", b"\x28\xb5\x2f\xfd\x00")
    serve({}, dpkg=False)
    path = tmp_path / "new.deb"
    path.write_bytes(broken)
    with pytest.raises(FetchError, match=r"new\.deb: its data can't be read.*dpkg-deb is not here"):
        list(packages.Package("deb", path, "x", "1").members())


def test_the_command(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    serve({"bowtie-examples": deb(genome())})
    assert main(["path", "ecoli536"]) == 1
    assert "coembed-samples fetch ecoli536" in capsys.readouterr().err
    assert main(["fetch", "wordnet", "ecoli536"]) == 1  # the second is fetched all the same
    out = capsys.readouterr()
    assert "wordnet-base failed" in out.err and "bowtie-examples 9.9-1 in" in out.out
    assert main(["path", "ecoli536"]) == 0
    assert Path(capsys.readouterr().out.strip()) == fetch.folder("ecoli536")
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert "fetched: bowtie-examples 9.9-1" in text and "not here: coembed-samples fetch genomes" in text
    assert all(f"{name}: " in text for name in SETS)
    with pytest.raises(SystemExit):
        main(["fetch", "nothing"])


def test_absent_data_names_the_command() -> None:
    from coembed import load

    for source, command in {
        "proteins": "proteins",
        "triples": "genomes",
        "wordnet": "wordnet",
        "instruments": "instruments",
        "icons": "icons",
    }.items():
        with pytest.raises(NotFetched, match=f"run `coembed-samples fetch {command}`"):
            load(f"samples/{source}")


@pytest.mark.external
def test_a_real_package_is_fetched_and_counted() -> None:
    said: list[str] = []
    fetch.fetch("ecoli536", say=said.append)
    note = fetch.note("ecoli536")
    assert note is not None and note["counts"] == {"NC_008253": 4_938_920} and not note["differs"], said
