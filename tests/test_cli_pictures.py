"""Pictures among the hits: each protocol gives back the picture it was given; a pipe gets paths."""

from __future__ import annotations

import base64
import io
import re

import pytest

from coembed.cli import pictures
from coembed.cli.pictures import picture, protocol

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def path(tmp_path):
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    image.save(tmp_path / "flag.png")
    return str(tmp_path / "flag.png")


@pytest.mark.parametrize(
    ("environ", "how"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1", "TERM": "xterm"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, "blocks"),
        ({}, "blocks"),
    ],
)
def test_the_terminal_is_told_by_its_environment(environ, how):
    assert protocol(environ) == how


def colours(image):
    image = image.convert("RGB")
    return [image.getpixel((int(image.width * at), image.height // 2)) for at in (0.1, 0.9)]


def test_kitty_and_iterm_get_the_picture(path):
    text = picture(path, {"TERM": "xterm-kitty"})
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert parts[0][0].startswith("a=T,f=100,r=10,") and [head[-1] for head, _ in parts] == ["1"] * (len(parts) - 1) + [
        "0"
    ]
    kitty = base64.b64decode("".join(data for _, data in parts))
    (iterm,) = re.findall(
        r"\x1b\]1337;File=inline=1;[^:]*:([^\x07]*)\x07", picture(path, {"TERM_PROGRAM": "iTerm.app"})
    )
    for data in (kitty, base64.b64decode(iterm)):
        assert colours(Image.open(io.BytesIO(data))) == [(255, 0, 0), (0, 0, 255)]


def test_sixels_draw_the_picture(path):
    text = picture(path, {"TERM": "foot"})
    width, height = map(int, re.search(r'"1;1;(\d+);(\d+)', text).groups())
    assert text.startswith("\x1bP") and text.endswith("\x1b\\\n") and (width, height) == (40, 20)
    palette = {n: (r, g, b) for n, r, g, b in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", text)}
    body = re.sub(r"#\d+;2;\d+;\d+;\d+", "", text[text.index("40;20") + 5 : -3])
    drawn = {}
    for number, band in enumerate(body.split("-")):
        for colour, line in re.findall(r"#(\d+)([?-~]+)", band):
            for x, letter in enumerate(line):
                for bit in range(6):
                    if ord(letter) - 63 >> bit & 1:
                        drawn[x, 6 * number + bit] = palette[colour]
    assert len(drawn) == 40 * 20 and drawn[2, 3] == ("100", "0", "0") and drawn[38, 19] == ("0", "0", "100")


def test_blocks_where_nothing_else_is_known(path):
    lines = picture(path, {"COLORTERM": "truecolor"}).splitlines()
    assert len(lines) == 10 and all(line.count("▀") == 40 and line.endswith("\x1b[0m") for line in lines)
    assert "38;2;255;0;0;48;2;255;0;0m" in lines[5] and "38;2;0;0;255;48;2;0;0;255m" in lines[5]
    assert "38;5;196;48;5;196m" in picture(path, {}) and "38;5;21;" in picture(path, {})


def test_only_pictures_in_a_terminal(path, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert not pictures.shown(path)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert pictures.shown(path) and not pictures.shown(str(tmp_path / "none.png"))
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert not pictures.shown(str(tmp_path / "a.txt")) and picture(str(tmp_path / "broken.png"), {}) == ""


def test_search_shows_them(path, monkeypatch, capsys):
    from coembed.cli import search

    monkeypatch.setattr("coembed.cli.pictures.shown", lambda given: given == path)
    search._show([{"path": path}, {"path": "a.txt"}, None, "text"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"1  {path}\n") and shown.count("▀") == 400
