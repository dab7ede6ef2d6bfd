"""The numbered examples run from top to bottom and print what they promise."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from coembed.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"
MOST_LINES = 60

Run = Callable[[str], str]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples of this module work, side by side as a reader would run them."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all examples: several of them read the same pictures and words.

    Test processes that run side by side share their parent's folder, hence the cache too.
    """
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    monkeypatch.setenv("COEMBED_CACHE", str(root / "examples-cache"))


@pytest.fixture(scope="module")
def printed(desk: Path) -> Iterator[dict[str, str]]:
    """What examples of this module have printed already, by name."""
    yield {}


@pytest.fixture
def run(desk: Path, printed: dict[str, str]) -> Run:
    """run("01") runs an example once, in the module's folder, and gives what it printed."""

    def once(number: str) -> str:
        if number not in printed:
            (path,) = EXAMPLES.glob(f"{number}_*.py")
            out = io.StringIO()
            with contextlib.chdir(desk), contextlib.redirect_stdout(out), torch.random.fork_rng(devices=[]):
                runpy.run_path(str(path), run_name="__main__")
            printed[number] = out.getvalue()
        return printed[number]

    return once


def numbers(line: str) -> list[float]:
    """Every number of a line, in order."""
    return [float(word.replace(",", "")) for word in re.findall(r"(?<![\w@])-?\d[\d,]*(?:\.\d+)?\b", line)]


def line(text: str, start: str) -> str:
    """The one line that begins with some words, indentation aside."""
    (found,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return found


def test_every_example_is_short_and_run() -> None:
    names = sorted(path.name for path in EXAMPLES.glob("[0-9]*"))
    assert [name[:2] for name in names] == [f"{i:02}" for i in range(1, len(names) + 1)]
    tests = {name.split("_")[1] for name in globals() if re.fullmatch(r"test_\d\d_\w+", name)}
    assert tests == {name[:2] for name in names}
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in names:
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MOST_LINES, name
        assert f"({name})" in readme, f"examples/README.md does not name {name}"


def test_01_words_find_pictures_that_never_trained(run: Run) -> None:
    text = run("01")
    for direction in ("image->text", "text->image"):
        _, _, recall, chance = numbers(line(text, direction))
        assert recall > 2.5 * chance
    assert line(text, "an insect").split()[2:4] == ["lady", "beetle"]


def test_02_training_beats_chance_spelling_and_no_training(run: Run) -> None:
    text = run("02")
    for block in text.split("\n\n")[1:3]:
        chance, spelling, before, after = (
            numbers(line(block, name))[1] for name in ("chance", "shared spelling", "before", "after")
        )
        assert after > 3 * max(chance, spelling, before)
    assert "魚 (fish)" in text


def test_03_a_private_encoder_trains_and_names_bad_items(run: Run) -> None:
    text = run("03")
    for direction in ("colour->name", "name->colour"):
        mrr, chance = numbers(line(text, direction))
        assert mrr > 2 * chance
    assert "darkblue" in line(text, "dark blue")
    assert "item 1: got str 'red'" in text


def test_04_a_tower_joins_and_the_others_stay(run: Run) -> None:
    run("01")
    text = run("04")
    assert text.count("bit-identical") == 2 and "CHANGED" not in text
    for direction, times in (("german->text", 3), ("text->german", 3), ("german->image", 1.7), ("image->german", 1.7)):
        _, recall, chance = numbers(line(text, direction).replace("R@10", "10"))
        assert recall > times * chance, direction
    assert "Kirschblüte" in line(text, "Blume")


def test_05_maxsim_is_the_sum_of_what_it_explains(run: Run) -> None:
    text = run("05")
    rows = [row.split() for row in text.splitlines() if re.search(r"text->code|code->text", row)]
    assert len(rows) == 4
    assert all(float(row[-2]) > 5 / 100 for row in rows)  # chance MRR of a hundred is .05
    assert {int(row[-1]) for row in rows if "token" in row}.isdisjoint({1})
    total = numbers(line(text, "MaxSim"))[0]
    parts = [float(row.split()[1]) for row in text.split("the sum of:\n")[1].splitlines()]
    assert sum(parts) == pytest.approx(total, abs=0.005 * (len(parts) + 1))  # of rounded numbers


def test_06_matryoshka_loses_less_when_cut(run: Run) -> None:
    text = run("06")
    rows = {
        int(row[0]): row for row in (numbers(r) for r in text.splitlines()) if len(row) == 4 and row[1] == 4 * row[0]
    }
    assert sorted(rows) == [8, 16, 32, 64, 128, 384]
    for width in (8, 16, 32, 64):
        _, _, plain, nested = rows[width]
        assert nested > plain
    assert rows[384][3] > rows[384][2] - 0.05
    assert "(1, 32)" in text


def test_07_classes_nobody_trained_for(run: Run) -> None:
    run("01")
    _, _, accuracy, chance, majority = numbers(run("07").splitlines()[0])
    assert accuracy > 2 * chance and accuracy > 1.5 * majority


def test_08_train_words_say_what_trains_and_what_is_saved(run: Run) -> None:
    text = run("08")
    start = float(line(text, "untrained").split()[1])
    found = {
        word: [float(cell.replace(",", "")) for cell in line(text, word).split()[1:]]
        for word in ("none", "last:1", "lora:4")
    }
    assert all(recall > start for recall, *_ in found.values())
    trains = {word: row[2] for word, row in found.items()}
    assert trains["none"] < trains["lora:4"] < trains["last:1"]
    megabytes = {word: row[3] for word, row in found.items()}
    assert megabytes["none"] < megabytes["lora:4"] < 5 < megabytes["last:1"]


def test_09_from_scratch_learns_and_is_shown_beside_spelling(run: Run) -> None:
    text = run("09")
    for direction in ("english->japanese", "japanese->english"):
        seen, held_out, spelling, chance = (float(cell) for cell in line(text, direction).split()[1:])
        assert seen > held_out > spelling > chance


def test_10_the_run_file_trains_and_the_commands_in_it_work(
    run: Run, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("02")  # writes pairs.jsonl
    (path,) = EXAMPLES.glob("10_*.yaml")
    text = path.read_text(encoding="utf-8")
    (desk / path.name).write_text(text, encoding="utf-8")
    commands = [shlex.split(row) for row in re.findall(r"^#   coembed (.*)$", text, re.MULTILINE)]
    assert [command[0] for command in commands] == ["align", "eval", "index", "search"]
    out = {}
    with contextlib.chdir(desk), torch.random.fork_rng(devices=[]):
        for command in commands:
            assert main(command) == 0, command
            out[command[0]] = capsys.readouterr().out
    assert line(out["align"], "english->japanese") == line(out["eval"], "english->japanese")
    hits = [row.split() for row in out["search"].splitlines() if row.strip().startswith("1 ")]
    assert len(hits) == 3 and hits[0][-1] == "魚"


@pytest.mark.filterwarnings("ignore:.* were cut")  # the beginning of a function tells enough
def test_11_seven_towers_meet_and_what_emerges_comes_last(run: Run) -> None:
    rows = [row for row in run("11").splitlines() if "->" in row]
    assert len(rows) == 16 and ["emergent" in row for row in rows] == [False] * 12 + [True] * 4
    for row in rows:
        mrr, chance, _ = numbers(row)
        pair = set(row.split()[0].split("->"))
        least = 2 if pair & {"image", "code", "graph"} else 1.1 if "emergent" in row else 1.2
        assert mrr > least * chance, row


def test_12_sounds_beat_chance_where_takes_are_held_out(run: Run) -> None:
    text = run("12")
    rows = [row.split() for row in text.splitlines() if "->" in row]
    assert [row[0] for row in rows] == ["sound"] * 4 + ["family"] * 2
    for *_, recall, chance, mrr, chance_mrr in rows[:4]:
        assert float(recall) > 1.7 * float(chance) and float(mrr) > 1.5 * float(chance_mrr)
    assert line(text, "tabla").count("tabla_") >= 3


def test_13_words_find_proteins_better_than_chance(run: Run) -> None:
    text = run("13")
    assert "85 proteins" in text and "coembed-samples fetch proteins" in text  # nothing is fetched in a test
    for direction in ("protein->text", "text->protein"):
        mrr, untrained, chance, _ = numbers(line(text, direction))
        assert mrr > 1.2 * max(untrained, chance)
    assert "photosystem" in line(text, "photosystem").removeprefix("  photosystem")


def test_14_glosses_of_a_made_up_wordnet(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = EXAMPLES.glob("14_*.py")
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    assert not stop.value.code and "coembed-samples fetch wordnet" in capsys.readouterr().out
    folder = Path(os.environ["COEMBED_CACHE"]) / "samples" / "wordnet"
    folder.mkdir(parents=True)
    try:
        made_up_wordnet(folder)
        text = run("14")
    finally:
        shutil.rmtree(folder)
    for block in text.split("\n\n")[1:3]:
        rows = {name: numbers(line(block, name)) for name in ("chance", "shared words", "untrained", "trained")}
        assert all(len(row) == 3 and 0 <= min(row) and max(row) <= 1 for row in rows.values())
        assert rows["shared words"][2] > 2 * rows["chance"][2]
    assert text.rstrip().count("\n  a ") == 3


def made_up_wordnet(folder: Path) -> None:
    """Nouns in a tree of three branches each, in the format of WordNet's files."""
    stems = ("ral", "mip", "tos", "ken", "vud", "lor", "pam")
    names = [f"{a}{b}{c}" for a in stems for b in stems for c in stems[:4]]
    rows = []
    for i, name in enumerate(names):
        near = [("@", (i - 1) // 3)] * (i > 0) + [("~", j) for j in range(3 * i + 1, 3 * i + 4) if j < len(names)]
        pointers = " ".join(f"{symbol} {j + 1:08} n 0000" for symbol, j in near)
        rows.append(f"{i + 1:08} 03 n 01 {name} 0 {len(near):03} {pointers} | a {names[(i - 1) // 3]} of some kind")
    for part in ("noun", "verb", "adj", "adv"):
        (folder / f"data.{part}").write_text("\n".join(rows) + "\n" if part == "noun" else "", encoding="utf-8")
    (folder / "fetched.json").write_text("{}", encoding="utf-8")


def test_15_reads_find_their_places_and_a_sam_file_says_so(run: Run, desk: Path) -> None:
    text = run("15")
    assert numbers(line(text, "right strand"))[1] > 98
    rows = [row.split("\t") for row in (desk / "reads.sam").read_text("ascii").splitlines()]
    assert rows[1][:2] == ["@SQ", "SN:lambda"]
    placed = [row for row in rows if not row[0].startswith("@")]
    assert len(placed) == 1000 and {row[1] for row in placed} <= {"0", "16", "4"}
    assert all(
        len(row[9]) == sum(int(n) for n, op in re.findall(r"(\d+)([=XIS])", row[5])) for row in placed if row[1] != "4"
    )


def test_16_trained_heads_find_trees_and_shared_words_are_shown(run: Run) -> None:
    text = run("16")
    for block in text.split("\n\n")[1:3]:
        names = ("chance", "untrained heads", "trained heads", "shared words")
        chance, untrained, trained, words = (numbers(line(block, name)) for name in names)
        assert trained[1] > 2.5 * max(chance[1], untrained[1]) and trained[2] < 0.6 * chance[2]
        assert words[1] > 5 * chance[1]


def test_17_every_stage_says_what_it_found(run: Run) -> None:
    text = run("17")
    rows = {name: numbers(line(text, name))[-6:] for name in ("dense", "bm25", "fused", "late interaction")}
    for one, _, ten, ceiling, _, _ in rows.values():
        assert 0.2 < one <= ten <= ceiling <= 1
    fused, late = rows["fused"], rows["late interaction"]
    assert fused[3] >= max(rows["dense"][3], rows["bm25"][3]) and late[3] <= fused[3]
    assert late[0] > fused[0], "reading the candidates again puts more right ones first"
    assert len(re.findall(r"(?:calendar|datetime):", text.split("and, of two modules")[1].split("\n\n")[0])) == 3
    asked, without = text.split("'read a file of a zip archive'")[1:]
    assert "tarfile" in asked and "tarfile" not in without


def test_18_a_server_answers_and_refuses(run: Run, desk: Path) -> None:
    run("01")
    text = run("18")
    bread = text.split("'a slice of bread'")[1].split("more like")[0]
    assert "bread" in line(bread, "text") and len(line(bread, "image").split(",")) == 3
    assert len(line(text.split("animals alone")[1], "text").split(", fish")) > 1
    assert line(text, "refused").endswith("expected a file of modality image")
    assert len(list((desk / "emoji-pictures").iterdir())) > 200
