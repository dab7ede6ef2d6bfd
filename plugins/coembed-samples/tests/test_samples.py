"""The carried and the built data are what they claim to be."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import coembed_samples
from coembed import load
from coembed.sources import Record
from coembed_samples.emoji import Emoji, _read
from coembed_samples.functions import functions
from coembed_samples.stdlib import Stdlib, hide, modules

HERE = Path(coembed_samples.__file__).parent


@pytest.fixture(scope="module")
def emoji() -> Mapping[str, Record]:
    return {record.id: record for record in Emoji()}


@pytest.fixture(scope="module")
def pairs() -> dict[str, list[Record]]:
    return {"kept": list(Stdlib("kept")), "hidden": list(Stdlib("hidden"))}


def test_specs_name_classes_that_load() -> None:
    specs = {spec.name: spec for spec in coembed_samples.coembed_sources()}
    assert {"samples/emoji", "samples/stdlib"} <= set(specs)
    assert isinstance(load("samples/emoji", language="de"), Emoji)
    assert isinstance(load("samples/stdlib", name="hidden"), Stdlib)


def test_carried_data_is_small() -> None:
    assert 500_000 < sum(path.stat().st_size for path in (HERE / "data").rglob("*") if path.is_file()) < 5_000_000


def test_every_emoji_has_a_picture_and_words(emoji: Mapping[str, Record]) -> None:
    assert len(emoji) == 1911
    for key, record in emoji.items():
        assert record["image"].size == (32, 32) and record["image"].mode == "RGB"
        # The emptiest pictures are small white squares on white.
        assert max(high - low for low, high in record["image"].getextrema()) > 10, key
        assert re.fullmatch(r".+?: .+", record["text"]), key
        assert key == key.lower() and "fe0f" not in key
        assert record.label and record.group and record.extra["emoji"]


def test_pictures_belong_to_their_words(emoji: Mapping[str, Record]) -> None:
    # Mean colour of the opaque part, by what the label says: a shifted sheet fails this.
    for key, channel in {"1f534": 0, "1f7e2": 1, "1f535": 2, "1f7e5": 0, "1f7e9": 1, "1f7e6": 2}.items():
        middle = emoji[key]["image"].getpixel((16, 16))
        assert max(range(3), key=lambda c: middle[c]) == channel, emoji[key]["text"]
    assert emoji["2b1b"]["image"].getpixel((16, 16)) < (90, 90, 90)
    assert emoji["1f1ef-1f1f5"]["text"].startswith("flag: Japan")
    red, green, blue = emoji["1f1ef-1f1f5"]["image"].getpixel((16, 16))
    assert red > 150 > max(green, blue)


def test_ten_languages_cover_every_emoji() -> None:
    assert len(Emoji.languages()) == 10
    index, english = _read("index.json.gz"), _read("text-en.json.gz")
    assert len(set(index["keys"])) == len(index["keys"]) == len(index["bases"]) == len(index["subgroups"]) == 1911
    for language in Emoji.languages():
        words = _read(f"text-{language}.json.gz")
        assert len(words) == 1911
        assert all(len(entry) >= 2 and all(entry) for entry in words), language  # a label and a tag each
        assert len({entry[0] for entry in words}) == 1911, language
        if language != "en":
            assert sum(a[0] == b[0] for a, b in zip(words, english, strict=True)) < 0.05 * 1911, language


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("man running", "woman running: facing right"),
        ("man: red hair", "woman: curly hair"),
        ("family: man, woman, boy", "family: adult, child"),
        ("merman", "mermaid"),
        ("police officer", "woman police officer"),
        ("flag: Norway", "flag: Zambia"),
        ("keycap: 1", "keycap: #"),
        ("one o’clock", "seven-thirty"),
        ("full moon", "first quarter moon face"),
        ("red heart", "blue heart"),
        ("mobile phone", "vibration mode"),
    ],
)
def test_near_duplicates_share_a_group_in_both_splits(first: str, second: str) -> None:
    for split_by in ("base", "subgroup"):
        groups = {_label(record): record.group for record in Emoji(split_by=split_by)}
        assert groups[first] == groups[second]


def test_different_things_do_not_share_a_base(emoji: Mapping[str, Record]) -> None:
    groups = {_label(record): record.group for record in emoji.values()}
    apart = [
        "man running",
        "man walking",
        "dog",
        "wolf",
        "cat",
        "pizza",
        "rose",
        "tulip",
        "grapes",
        "anchor",
        "man judge",
    ]
    assert len({groups[label] for label in apart}) == len(apart)
    sizes = [list(groups.values()).count(group) for group in set(groups.values())]
    assert max(sizes) == 259 and len(sizes) > 1000  # only the flags are that many


def test_a_split_never_separates_equal_pictures() -> None:
    for split_by in ("base", "subgroup"):
        group_of: dict[bytes, str | None] = {}
        for record in Emoji(split_by=split_by):
            assert group_of.setdefault(record["image"].tobytes(), record.group) == record.group, record["text"]


@pytest.mark.parametrize("split_by", ["base", "subgroup"])
def test_no_group_is_on_both_sides_of_a_split(split_by: str) -> None:
    source = Emoji(split_by=split_by)
    for seed in range(3):
        train, held = source.split(0.2, seed=seed)
        assert len(train) + len(held) == 1911
        assert not {r.group for r in train} & {r.group for r in held}


def test_wrong_arguments_say_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"'xx'.*en.*zh"):
        Emoji(language="xx")
    with pytest.raises(ValueError, match="'hexcode'"):
        Emoji(split_by="hexcode")
    with pytest.raises(ValueError, match="'gone'"):
        Stdlib(name="gone")


def test_sources_can_be_read_again(pairs: Mapping[str, list[Record]]) -> None:
    source = Emoji(language="ja")
    assert [(r.id, r["text"]) for r in source] == [(r.id, r["text"]) for r in source]
    assert list(Stdlib("kept")) == pairs["kept"]


def test_stdlib_pairs_are_documented_functions(pairs: Mapping[str, list[Record]]) -> None:
    kept = pairs["kept"]
    assert 2800 < len(kept) < 4600  # by Python's version, and by what a distribution packages apart
    assert len({r.id for r in kept}) == len({r["text"] for r in kept}) == len(kept)
    assert not [r.id for r in kept if len(r["text"].split()) < 3 or "\n" in r["text"]]
    assert {r.group for r in kept} <= sys.stdlib_module_names
    assert {r.group for r in kept} >= {"email", "heapq", "statistics"} and "test" not in {r.group for r in kept}


def test_stdlib_code_parses_and_holds_no_docstring(pairs: Mapping[str, list[Record]]) -> None:
    for record in pairs["kept"]:
        (node,) = ast.parse(record["code"]).body
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef), record.id
        assert node.name == record.id.partition(":")[2].partition("#")[0].rpartition(".")[2]
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                assert ast.get_docstring(inner) is None, record.id
        assert len(record["code"].splitlines()) >= 4 and not record["code"][0].isspace()


def test_hidden_code_parses_and_holds_no_name(pairs: Mapping[str, list[Record]]) -> None:
    for kept, hidden in zip(pairs["kept"], pairs["hidden"], strict=True):
        name = ast.parse(kept["code"]).body[0].name
        assert (hidden.id, hidden["text"], hidden.group) == (kept.id, kept["text"], kept.group)
        assert not re.search(rf"\b{name}\b", hidden["code"]), hidden.id
        assert ast.parse(hidden["code"]).body[0].name in {"f", "func"}


def test_no_module_is_on_both_sides_of_a_split() -> None:
    train, held = Stdlib().split(0.2)
    assert len(train) > len(held) > 0 and not {r.group for r in train} & {r.group for r in held}


def test_no_path_of_the_machine_is_in_a_record(pairs: Mapping[str, list[Record]]) -> None:
    library = str(dict(modules())["ast"].parent)
    assert not [r.id for r in pairs["kept"] if library in r["code"] + r["text"] + r.id + str(r.extra)]


def test_functions_are_cut_out_as_written() -> None:
    source = '''
class A:
    @property  # cached?
    def area(self):  # äöü
        """Area.

        More.
        """

        def inner():
            "Only this."
        x = f"""
left"""
        return inner, x
    def same(self): "Shares a line."; return 1
'''
    (area, inner) = functions(source)
    assert (area.qualname, inner.qualname) == ("A.area", "A.area.<locals>.inner")
    assert area.docstring == "Area.\n\nMore." and area.lines == 5
    assert area.code == (
        "@property  # cached?\ndef area(self):  # äöü\n    def inner():\n        pass\n"
        '    x = f"""\nleft"""\n    return inner, x'
    )


@pytest.mark.parametrize(
    ("name", "code", "hidden"),
    [
        (
            "area",
            "def area(r):\n    return self.area(r), _area, 'area?'",
            "def f(r):\n    return self.f(r), _area, 'f?'",
        ),
        (
            "open",
            "def open(p):\n    with io(p) as f:\n        pass",
            "def func(p):\n    with io(p) as f:\n        pass",
        ),
        ("open", 'def open(p):\n    return f"{p}"', 'def f(p):\n    return f"{p}"'),
        ("b", 'def b(x):\n    return b(b"x")', 'def f(x):\n    return f(b"x")'),
    ],
)
def test_hiding_a_name(name: str, code: str, hidden: str) -> None:
    assert hide(name, code) == hidden


def _label(record: Record) -> str:
    """The English label: labels of flags, keycaps and families hold a colon of their own."""
    return _LABELS[record.id]


_LABELS = dict(zip(_read("index.json.gz")["keys"], (entry[0] for entry in _read("text-en.json.gz")), strict=True))
