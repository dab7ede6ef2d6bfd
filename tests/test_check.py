"""coembed check: the conformance kit without pytest."""

from __future__ import annotations

import json

import pytest

from coembed import registry
from coembed.cli import main
from coembed.testing import Result, cases


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_plugin_that_holds(capsys):
    assert main(["check", "core", "-k", "infonce"]) == 0
    out, err = capsys.readouterr()
    table = [row for row in lines(out) if row[0] == "infonce"]
    assert [row[1] for row in table] == [case.check for case in cases("core") if case.component == "infonce"]
    assert {row[2] for row in table} == {"ok", "-"} and all(float(row[3]) >= 0 for row in table)
    assert "7 ok, 0 failed, 1 not claimed" in err


def test_a_plugin_that_breaks_a_promise(fakes, capsys):
    fakes("good")
    assert main(["check", "coembed-good", "-k", "specs"]) == 1
    out, err = capsys.readouterr()
    assert ["good", "specs_are_complete", "failed"] in [row[:3] for row in lines(out)]
    assert out.splitlines()[-1] == "good specs_are_complete: good/bytes has no summary: say in one line what it is"
    assert "1 ok, 1 failed" in err and "check: 2/2 checks" in err


@pytest.mark.parametrize(
    ("fake", "name", "cause"),
    [
        ("import-error", "broken", "a_module_that_is_not_there"),
        ("wrong-prefix", "wrong", "may only offer names that start with"),
        ("future-api", "future", "upgrade coembed"),
        ("thief", "text", "both claim 'text'"),
    ],
)
def test_a_plugin_that_does_not_load_is_a_failed_check(fake, name, cause, fakes, capsys):
    fakes(fake)
    assert main(["check", name]) == 1
    out, _ = capsys.readouterr()
    assert [row[2] for row in lines(out) if row[0] == name and len(row) == 4] == ["failed", *["-"] * 6]
    assert out.splitlines()[-1].startswith(f"{name} loads: ") and cause in out


def test_json(fakes, capsys):
    fakes("good")
    assert main(["check", "good", "--json"]) == 1
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert (data["plugin"], data["package"], data["version"], data["holds"]) == ("good", "coembed-good", "1.0", False)
    by = {(row["component"], row["check"]): row for row in data["results"]}
    assert len(by) == len(data["results"]) == len(list(cases("good")))
    assert by["good", "specs_are_complete"]["reason"].startswith("good/bytes has no summary")
    assert by["good/bytes", "honours_roles"] | {"seconds": 0} == {
        "component": "good/bytes",
        "kind": "encoder",
        "check": "honours_roles",
        "asks": "Every declared role with a prompt changes the output; an unknown role is refused.",
        "status": "ok",
        "seconds": 0,
        "reason": None,
    }
    assert by["good/small", "honours_roles"]["status"] == "-"
    assert by["good/small", "honours_roles"]["reason"] == "no roles declared"
    assert {row["status"] for row in data["results"]} == {"ok", "failed", "-"} and "check: " in err


def test_what_a_plugin_prints_is_no_part_of_the_result(monkeypatch, capsys):
    def noisy(case):
        print("a noisy component")
        return Result(case, "ok", 0.0)

    monkeypatch.setattr("coembed.testing.run", noisy)
    assert main(["check", "core", "-k", "infonce-adds_up", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["holds"] and "a noisy component" in err


def test_wrong_names(fakes, monkeypatch, capsys):
    fakes("good")
    monkeypatch.setattr(registry, "known", lambda: {"dna-x": {"package": "coembed-dna-x"}})
    for name, said in [
        ("goood", "no plugin 'goood' is installed; did you mean good"),
        ("coembed-godo", "did you mean coembed-good"),
        ("dna-x", "coembed-dna-x is not installed: run `coembed install dna-x`"),
        ("coembed-dna-x", "run `coembed install dna-x`"),
    ]:
        assert main(["check", name]) == 1
        assert said in capsys.readouterr().err
    assert main(["check", "good", "-k", "rolls"]) == 1
    assert "no check on good contains 'rolls'; its checks: loads, light_import" in capsys.readouterr().err
