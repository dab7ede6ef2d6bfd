"""The command: what it says, what it needs, how it ends."""

from __future__ import annotations

import json
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from coembed.cli import main
from coembed_serve import command
from coembed_serve.settings import Settings


def test_without_its_package_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "coembed_serve", None)
    assert main(["serve", "space"]) == 1
    assert "run `coembed install serve`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max-mb", "0"], "body 0 must be more than 0"),
        (["--rate", "-1"], "rate -1.0"),
        (["--media", "/nowhere/at/all"], "no such folder"),
    ],
)
def test_settings_that_make_no_sense_are_usage_errors(shop, capsys, flags, words):
    with pytest.raises(SystemExit) as ended:
        main(["serve", str(shop / "space"), *flags])
    assert ended.value.code == 2 and words in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(shop, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", str(shop / "space"), "--port", str(port)]) == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


def test_the_operator_is_told_the_address_and_what_is_missing(library):
    lines = command.said(library, Settings(host="0.0.0.0", token="secret-token"), 80)
    assert lines[0].endswith("http://0.0.0.0:80/#token=secret-token")
    assert any("TLS" in line for line in lines) and any("--media" in line for line in lines)
    assert "token" not in command.said(library, Settings(), 80)[0]
    with pytest.raises(ValueError, match="too easy"):
        command.token("short", "127.0.0.1")


def test_it_serves_and_ends_by_a_signal(running):
    with running("--map", "pca") as (address, process):
        body = json.dumps({"tower": "text", "text": "a red heart", "k": 1}).encode()
        asked = urllib.request.Request(f"{address}api/search", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            found = json.load(answer)["found"]
        assert {part["index"] for part in found} >= {"text", "image", "graph"}
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_the_wheel_has_the_page():
    import coembed_serve

    static = Path(coembed_serve.__file__).parent / "static"
    page = (static / "index.html").read_text()
    named = {part.split('"')[0] for part in page.split('"static/')[1:]}
    assert {"app.js", "style.css", "items.css", "icon.svg"} == named
    assert all((static / name).is_file() for name in named)
