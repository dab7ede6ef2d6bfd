"""Bad input at the command line: one line that names it, exit code 1, and nothing else lost."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

import coembed
from coembed.cli import main
from coembed.index import open_index

TOWERS = ["--tower", "a=good/bytes", "--tower", "b=good/small"]
PICKY = """
import torch
from coembed import EncoderSpec, hookimpl
@hookimpl
def coembed_encoders():
    yield EncoderSpec(name="picky/x", modality="text", dim=8, target="fake_picky_model:Picky", layers=2)
"""
MODEL = """
from coembed import BadItem, Embedding
from coembed.testing import ToyEncoder
class Picky(ToyEncoder):
    def collate(self, items, prompt=""):
        for position, item in enumerate(items):
            if item.startswith("bad"):
                raise BadItem(position, f"the word {item!r}", "a good word")
        return {**super().collate(items, prompt), "nan": self.nan(items)}
    def nan(self, items):
        import torch
        return torch.tensor([float("nan") if item.startswith("nan") else 0.0 for item in items])
    def forward(self, batch, layer=None):
        out = super().forward(batch, layer)
        return Embedding(out.values + batch["nan"][:, None, None], out.mask)
"""


@pytest.fixture(autouse=True)
def here(fakes, tmp_path, monkeypatch):
    """A working folder with pairs.jsonl and docs/, plugins good and picky (which refuses words)."""
    folder = tmp_path / "plugins"
    facts = folder / "coembed_picky-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: coembed-picky\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[coembed.v1]\npicky = fake_picky\n")
    (folder / "fake_picky.py").write_text(PICKY)
    (folder / "fake_picky_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(folder))
    fakes("good")
    monkeypatch.chdir(tmp_path)
    pairs([{"a": f"item {i}", "b": f"ITEM {i}"} for i in range(40)])
    Path("docs").mkdir()
    Path("docs", "x.txt").write_text("item x")
    return tmp_path


def pairs(rows, name="pairs.jsonl"):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def align(*more, source="pairs.jsonl", out="space"):
    argv = ["align", *TOWERS, "--source", source, "--out", out, "--steps", "2", "--held-out", "0.3"]
    return main([*argv, *more])


def fails(capsys, argv, *parts, code=1):
    """Run a command that must fail with one line that has these parts."""
    capsys.readouterr()
    try:
        got = main(argv)
    except SystemExit as ended:
        got = ended.code
    captured = capsys.readouterr()
    assert got == code, captured.err
    assert "Traceback" not in captured.err
    lines = [line for line in captured.err.splitlines() if line.startswith(f"coembed {argv[0]}: ")]
    assert len(lines) == 1, captured.err
    for part in parts:
        assert part in lines[0], lines[0]
    return lines[0]


def test_a_bad_item_is_named_by_position_and_file(capsys):
    for name, text in [("a.txt", "fine"), ("b.txt", "bad word"), ("c.txt", "fine too")]:
        Path("docs", name).write_text(text)
    argv = ["embed", "picky/x", "docs", "--out", "v"]
    fails(capsys, argv, "item 1 (b.txt): got the word 'bad word', expected a good word; --on-error skip leaves it out")
    assert [path.name for path in Path("v").iterdir()] == ["job.json"], "no shard of which an item is bad"


def test_skipped_items_are_written_down_and_the_others_are_there(capsys):
    for name, text in [("a.txt", b"fine"), ("b.txt", b"bad word"), ("c.txt", b"\xff\xfe"), ("d.txt", b"nan")]:
        Path("docs", name).write_bytes(text)
    argv = ["embed", "picky/x", "docs", "--text", "bad", "--out", "v", "--on-error", "skip"]
    assert main(argv) == 0
    assert "4 items skipped: see v.skipped.jsonl" in capsys.readouterr().err
    ids = [json.loads(line)["id"] for line in Path("v/ids-00000.jsonl").read_text().splitlines()]
    assert ids == ["a.txt", "x.txt"]
    with safe_open("v/vectors-00000.safetensors", "pt") as file:
        wanted = coembed.load("picky/x").encode(["fine", "item x"]).values
        assert file.get_tensor("values").equal(wanted), "what is bad does not change what is good"
    rows = [json.loads(line) for line in Path("v.skipped.jsonl").read_text().splitlines()]
    assert [(row["position"], row["id"], row["path"]) for row in rows] == [
        (1, "b.txt", "docs/b.txt"),
        (2, "c.txt", "docs/c.txt"),
        (3, "d.txt", "docs/d.txt"),
        (5, "text#1", None),
    ]
    assert rows[0]["got"] == "the word 'bad word'" and rows[0]["expected"] == "a good word"
    assert "UTF-8" in rows[1]["expected"]
    assert "finite" in rows[2]["expected"]
    Path("docs", "b.txt").write_text("good")
    assert main(["embed", "picky/x", "docs/a.txt", "--out", "v", "--on-error", "skip"]) == 0
    assert not Path("v.skipped.jsonl").exists(), "a list of another run's faults would mislead"


def test_items_past_the_first_chunk_keep_their_position(capsys, monkeypatch):
    import io

    lines = ["fine"] * 300
    lines[290] = "bad"
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    fails(capsys, ["embed", "picky/x", "-", "--out", "v"], "item 290 (stdin#291): got the word 'bad'")


def test_nan_is_refused_where_the_item_is_still_known(capsys):
    fails(capsys, ["embed", "picky/x", "--text", "ok", "--text", "nan", "--json"], "item 1 (text#2)", "finite, not NaN")


def test_an_index_of_nothing_but_bad_items(capsys):
    assert align("--set", "a.seed=1") == 0
    Path("docs", "x.txt").write_bytes(b"\xff")
    argv = ["index", "space", "--tower", "a", "docs"]
    fails(capsys, argv, "item 0 (x.txt)", "UTF-8")
    fails(capsys, [*argv, "--on-error", "skip"], "nothing to index: all 1 items were bad: x.txt")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["embed", "good/bytes", "empty", "--out", "v"], "empty: no file matches '*' in this folder"),
        (["embed", "good/bytes", "docs", "--glob", "*.png", "--out", "v"], "docs: no file matches '*.png'"),
        (["embed", "good/bytes", "-", "--out", "v"], "no items in -: the inputs are empty"),
        (["embed", "good/bytes", "gone.txt", "--out", "v"], "gone.txt: no such file or folder"),
        (["embed", "good/bytes", "docs", "--out", "docs"], "docs holds x.txt: choose an empty folder"),
        (["embed", "good/bytes", "docs", "--out", "pairs.jsonl"], "pairs.jsonl is a file: name a folder"),
        (["embed", "good/bytes", "--text", "x", "--json", "--role", "poet"], "no role 'poet'; its roles: query, docum"),
        (
            ["embed", "good/bytes", "--text", "x", "--json", "--dim", "3"],
            "dim 3: these vectors were not trained to be cut to that",
        ),
        (["embed", "good/bytes", "--text", "x", "--json", "--batch-size", "0"], "batch_size 0 must be at least 1"),
        (["embed", "good/bytes", "--text", "x", "--json", "--device", "abacus"], "abacus"),
        (["embed", "good/bytes", "--text", "x", "--json", "--set", "sed=1"], "--set: good/bytes, sed: no such key"),
        (["embed", "good/bytes", "--text", "x", "--json", "--set", "seed=[1"], "not a value as YAML writes them"),
        (["embed", "good/bite", "--text", "x", "--json"], "did you mean good/bytes?"),
        (["embed", "No Folder", "--text", "x", "--json"], "No Folder: no such folder, and no encoder has such a name"),
        (["embed", "infonce", "--text", "x", "--json"], "infonce is an objective, but an encoder is needed here"),
        (["search", "nospace", "--from", "a", "--to", "b", "x"], "nospace/index/b: no index of b; make it by `coembed"),
        (["index", "nospace", "--tower", "a", "docs"], "nospace: no such folder; a space is made by `coembed align`"),
        (["index", "docs", "--tower", "a", "docs"], "docs is not a saved space: it has no space.json"),
        (["eval", "nospace", "--source", "pairs.jsonl"], "nospace: no such folder"),
        (["align", "gone.yaml", "--out", "x"], "gone.yaml: No such file or directory"),
        (["align", "docs", "--out", "x"], "docs: Is a directory"),
        (["info", "dna"], "no component 'dna'"),
    ],
)
def test_what_is_not_there_or_empty_or_not_right(argv, message, capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    Path("empty").mkdir()
    fails(capsys, argv, message)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["embed", "good/bytes", "--text", "x"], "--out is needed, or --json"),
        (["embed", "good/bytes", "--out", "v"], "give files, folders, - or --text"),
        (["embed", "good/bytes", "--text", "x", "--json", "--on-error", "skip"], "--on-error skip needs --out"),
        (["embed", "good/bytes", "--text", "x", "--json", "--set", "seed"], "'seed' is not NAME=VALUE"),
        (["search", "s", "--from", "a", "--to", "b"], "give a QUERY or --file"),
        (["search", "s", "--from", "a", "--to", "b", "x", "-k", "0"], "-k 0 must be at least 1"),
        (["align", "--tower", "a=good/bytes"], "give a run file, or --tower, --source and --out"),
        (["align", "run.yaml", "--tower", "a=x"], "--tower and a run file do not go together"),
        (
            ["align", *TOWERS, "--train", "c=all", "--source", "p", "--out", "o"],
            "--train c: no such tower; there are a, b",
        ),
        (["align", *TOWERS, "--set", "seed=1", "--source", "p", "--out", "o"], "write --set TOWER.KEY=VALUE"),
        (["align", *TOWERS, *TOWERS, "--source", "p", "--out", "o"], "--tower: two towers have one name"),
        (["eval", "space"], "--source is needed"),
    ],
)
def test_arguments_that_do_not_go_together_are_usage(argv, message, capsys):
    fails(capsys, argv, message, code=2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "source pairs.jsonl has no records"),
        ([{"a": f"x{i}", "b": i} for i in range(9)], "got int"),
        ([{"a": f"x{i}", "c": "y"} for i in range(9)], "records have a, c, the towers are a, b"),
        ([{"a": "x", "b": "y", "id": str(i % 20)} for i in range(21)], "'0' occurs twice"),
        ([{"a": "x", "b": "y"}], "side is empty, there are only 1 groups; give more records, or held_out 0"),
        ([["x", "y"]], "pairs.jsonl, line 1: a JSON object is expected, got list ['x', 'y']"),
    ],
    ids=["empty", "wrong type", "other towers", "same id", "one record", "no object"],
)
def test_sources_that_can_not_be_trained_on(rows, message, capsys):
    pairs(rows)
    argv = ["align", *TOWERS, "--source", "pairs.jsonl", "--out", "space", "--steps", "2", "--held-out", "0.3"]
    fails(capsys, argv, message)
    assert not Path("space", "space.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source", "gone.jsonl"], "gone.jsonl: no such file or folder, and no source of that name"),
        (["--source", "docs"], "docs: a folder needs towers="),
        (["--source", "pairs.jsonl", "--map", "a=aa"], "no column 'aa'"),
        (["--source", "pairs.jsonl", "--group", "famly"], "no column 'famly'"),
        (
            ["--source", "pairs.jsonl", "--objective", "infonec"],
            "objective: coembed has no component 'infonec'; did you",
        ),
        (["--source", "pairs.jsonl", "--aligner", "a=liner"], "towers.a.aligner: coembed has no component 'liner'"),
        (["--source", "pairs.jsonl", "--aligner", "a=cca"], "cca is solved for, not trained"),
        (["--source", "pairs.jsonl", "--train", "a=last:7"], "train 'last:7': good/bytes has 2 blocks"),
        (["--source", "pairs.jsonl", "--train", "a=some"], "train 'some': use 'none', 'last:k'"),
        (["--source", "pairs.jsonl", "--dim", "0"], "command line, dim: 0 must be positive"),
        (["--source", "pairs.jsonl", "--lr", "1e30", "--steps", "20"], "lower lr"),
        (["--source", "pairs.jsonl", "--held-out", "1.5"], "held_out: 1.5 must be a share"),
        (["--source", "pairs.jsonl", "--tower", "C=good/bytes"], "tower name 'C'"),
        (["--source", "pairs.jsonl", "--tower", "c=good/bytes"], "no record of any source has an item for c"),
    ],
)
def test_flags_of_align_that_are_not_right(flags, message, capsys):
    fails(capsys, ["align", *TOWERS, "--out", "space", "--steps", "3", "--held-out", "0.3", *flags], message)


def test_a_folder_that_holds_other_things_is_left_alone(capsys):
    fails(capsys, ["align", *TOWERS, "--source", "pairs.jsonl", "--out", "docs"], "docs holds other files")
    assert [path.name for path in Path("docs").iterdir()] == ["x.txt"]
    assert align("--set", "a.seed=1") == 0
    before = sorted(path.name for path in Path("space").iterdir())
    argv = ["index", "space", "--tower", "a", "docs", "--out", "space"]
    fails(capsys, argv, "no index.json: choose an empty folder")
    assert sorted(path.name for path in Path("space").iterdir()) == before


def test_a_run_that_could_not_start_leaves_no_trace(capsys):
    fails(capsys, ["align", *TOWERS, "--source", "pairs.jsonl", "--train", "a=last:7", "--out", "space"], "last:7")
    assert not Path("space").exists()


def test_a_run_file_with_a_typo(capsys):
    Path("run.yaml").write_text(
        "towers: {a: good/bytes, b: good/small}\nsource: {path: pairs.jsonl}\nfit: {epoch: 3}\n"
    )
    fails(
        capsys, ["align", "run.yaml", "--out", "x"], "run.yaml, line 3, fit.epoch: no such key", "did you mean epochs"
    )
    Path("run.yaml").write_text(
        "towers: {a: good/bytes, b: {encoder: good/small, kwargs: {sed: 1}}}\nsource: {path: p}\n"
    )
    Path("p").write_text("")
    fails(capsys, ["align", "run.yaml", "--out", "x"], "p: no source reads this; use .jsonl")
    Path("run.yaml").write_text(Path("run.yaml").read_text().replace("path: p", "path: pairs.jsonl"))
    fails(capsys, ["align", "run.yaml", "--out", "x"], "line 1, towers.b.encoder: good/small, sed: no such key", "seed")


def test_a_space_whose_plugin_is_missing_names_the_package(capsys, monkeypatch, fakes):
    assert align() == 0
    monkeypatch.setattr(sys, "path", [part for part in sys.path if not part.endswith("fakes/good")])
    fakes()
    fails(
        capsys, ["embed", "space", "--tower", "a", "--text", "x", "--json"], "tower a can't be loaded", "coembed-good"
    )


@pytest.mark.parametrize("file", ["towers/a/aligner.safetensors", "towers/a/encoder/model.safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 200])
def test_truncated_weights_are_named(capsys, file, keep):
    assert align() == 0
    path = Path("space", file)
    path.write_bytes(path.read_bytes()[:keep])
    fails(capsys, ["embed", "space", "--tower", "b", "--text", "x", "--json"], str(path), "damaged or cut off")


def test_a_damaged_space_index_and_checkpoint_are_named(capsys):
    assert align() == 0
    assert main(["index", "space", "--tower", "b", "docs"]) == 0
    search = ["search", "space", "--from", "a", "--to", "b", "x"]
    (vectors,) = Path("space/index/b").glob("part-*.safetensors")
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-3])
    fails(capsys, search, str(vectors), "damaged")
    vectors.write_bytes(whole)
    Path("space/index/b/index.json").write_text("{")
    fails(capsys, search, "space/index/b/index.json: damaged")
    (checkpoint,) = Path("space/checkpoints").iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:50])
    argv = ["align", *TOWERS, "--source", "pairs.jsonl", "--out", "space", "--steps", "2", "--held-out", "0.3"]
    fails(capsys, argv, str(checkpoint), "damaged checkpoint")
    Path("space/run.json").write_text("{")
    fails(capsys, argv, "space/run.json: damaged", "--restart begins anew")
    assert main([*argv, "--restart"]) == 0
    Path("space/space.json").write_text('{"format": 99}')
    fails(
        capsys, ["embed", "space", "--tower", "a", "--text", "x", "--json"], "format 99, this coembed reads 1: upgrade"
    )


def full(*given, **more):
    raise OSError(errno.ENOSPC, "No space left on device", "the/file")


def test_a_full_disk_while_training_leaves_no_half_space(capsys, monkeypatch):
    monkeypatch.setattr("coembed.weights.write", full)
    argv = ["align", *TOWERS, "--source", "pairs.jsonl", "--out", "space", "--steps", "2", "--held-out", "0.3"]
    fails(capsys, argv, "the/file: No space left on device")
    assert not Path("space/space.json").exists() and not Path("space/.space.part").exists()
    monkeypatch.undo()


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
from coembed.cli import main
sys.exit(main(sys.argv[1:]))
"""


def limited(size, *argv):
    """Run where no file may grow past a size: the system refuses the write in the middle, as a full disk does."""
    code = LIMITED.format(size)
    env = {"PYTHONPATH": ":".join(part for part in sys.path if part), "OMP_NUM_THREADS": "1", "PATH": ""}
    env["PYTHONDONTWRITEBYTECODE"] = "1"  # or it would leave cut-off .pyc files behind
    return subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, env=env, check=False)


def test_a_write_that_the_system_refuses_keeps_what_was_there(capsys):
    assert align() == 0
    assert main(["index", "space", "--tower", "b", "docs"]) == 0
    for i in range(200):
        Path("docs", f"{i}.txt").write_text(f"item {i}")
    done = limited(3000, "index", "space", "--tower", "b", "docs")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("coembed index: ")
    assert open_index("space/index/b").ids == ["x.txt"], "the index that was there is whole"
    assert [path.name for path in Path("space/index").iterdir()] == ["b"], "no half-written folder is left"
    done = limited(3000, "embed", "space", "--tower", "b", "docs", "--out", "v")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [path.name for path in Path("v").iterdir()] in ([], ["job.json"]), "no half-written shard is left"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_can_not_be_written():
    with open("/dev/full", "w") as sink:
        command = [sys.executable, "-m", "coembed.cli", "info", "infonce"]
        done = subprocess.run(command, stdout=sink, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "coembed info: No space left on device\n")


@pytest.mark.parametrize("argv", [["--debug", "info", "infonec"], ["info", "infonec", "--debug"]])
def test_debug_shows_the_traceback(argv, capsys):
    with pytest.raises(coembed.PluginError, match="did you mean infonce"):
        main(argv)
    done = subprocess.run([sys.executable, "-m", "coembed.cli", *argv], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback (most recent call last)" in done.stderr


def test_an_error_of_many_lines_is_one(capsys, monkeypatch):
    def run(args):
        raise RuntimeError("first\n  second")

    monkeypatch.setattr("coembed.cli.info.run", run)
    assert fails(capsys, ["info", "x"]) == "coembed info: RuntimeError: first second (--debug shows where)"


def test_ctrl_c_is_one_word(capsys, monkeypatch):
    def run(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("coembed.cli.info.run", run)
    assert main(["info", "x"]) == 1
    assert capsys.readouterr().err == "coembed: stopped\n"
