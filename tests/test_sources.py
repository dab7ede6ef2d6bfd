"""File readers: rows become records, bad rows are named, reading streams and repeats."""

from __future__ import annotations

import builtins
import gzip
import json
from itertools import islice
from pathlib import Path

import pytest

import coembed
from coembed.sources import Csv, Jsonl, Parquet, Record, SourceError, open_source

ROWS = [
    {"key": "c1", "caption": "a cat", "file": "img/cat.png", "family": "felidae", "kind": "pet", "w": 2, "year": 2001},
    {"key": "d1", "caption": "a dog", "file": "", "family": "canidae", "kind": "pet", "w": 0.5},
    {"key": "o1", "caption": None, "file": "/abs/owl.png", "family": None, "kind": None, "w": None},
]
NAMED = {"towers": {"text": "caption", "image": "file"}, "files": ["image"], "id": "key"}
ROLES = {"group": "family", "label": "kind", "weight": "w"}


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(folder: Path, suffix: str, rows: list[dict]) -> Path:
    path = folder / f"rows{suffix}"
    names = list(dict.fromkeys(name for row in rows for name in row))
    if suffix == ".jsonl":
        return jsonl(path, rows)
    if suffix == ".csv":
        cells = [["" if row.get(name) is None else str(row[name]) for name in names] for row in rows]
        path.write_text("\n".join(map(",".join, [names, *cells])) + "\n", encoding="utf-8")
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({name: [row.get(name) for row in rows] for name in names}), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_columns_become_towers_and_roles(tmp_path, suffix):
    source = open_source(table(tmp_path, suffix, ROWS), **NAMED, **ROLES)
    cat, dog, owl = source
    assert cat.items == {"text": "a cat", "image": tmp_path / "img/cat.png"}
    assert (cat.id, cat.group, cat.label, cat.weight) == ("c1", "felidae", "pet", 2.0)
    assert {name: str(cell) for name, cell in cat.extra.items()} == {"year": "2001"}
    assert dog.items == {"text": "a dog"} and dog.weight == 0.5, "an empty cell is a tower that is lacking"
    assert owl.items == {"image": Path("/abs/owl.png")}
    assert (owl.group, owl.label, owl.weight) == (None, None, 1.0)
    assert source.towers == ("text", "image")
    assert list(source) == [cat, dog, owl], "the same records again"
    assert len(source) == 3 and source[1] == dog and source[-1] == owl


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_own_layout_needs_no_names(tmp_path, suffix):
    rows = [
        {"id": "a", "text": "one", "code": "1", "group": "g", "label": "l", "weight": 3},
        {"id": "b", "text": "two"},
    ]
    source = open_source(table(tmp_path, suffix, rows))
    assert source.towers == ("text", "code")
    assert source[0] == Record({"text": "one", "code": "1"}, id="a", group="g", label="l", weight=3.0)
    assert source[1] == Record({"text": "two"}, id="b")


@pytest.mark.parametrize(("suffix", "ids"), [(".jsonl", ["1", "2"]), (".csv", ["2", "3"]), (".parquet", ["0", "1"])])
def test_a_row_without_id_gets_its_place(tmp_path, suffix, ids):
    source = open_source(table(tmp_path, suffix, [{"text": "one"}, {"text": "two"}]))
    assert [record.id for record in source] == ids
    assert source.columns.own


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("wrong", [{"towers": {"text": "captoin"}}, {"group": "famly"}, {"id": "kye"}, {"weight": "x"}])
def test_a_column_that_is_not_there_is_named_with_its_near_names(tmp_path, suffix, wrong):
    source = open_source(table(tmp_path, suffix, ROWS), **{"towers": ["caption"], **wrong})
    column = next(iter(wrong.values()))
    column = column if isinstance(column, str) else "captoin"
    near = {"captoin": "'caption'", "famly": "'family'", "kye": "'key'", "x": "it has key, caption"}[column]
    with pytest.raises(SourceError, match=f"no column '{column}'.*{near}"):
        list(source)


def test_a_tower_that_reads_files_must_be_a_tower(tmp_path):
    with pytest.raises(ValueError, match="no tower 'file'; it has text, image"):
        Jsonl(jsonl(tmp_path / "a.jsonl", ROWS), towers={"text": "caption", "image": "file"}, files=["file"])
    with pytest.raises(SourceError, match="no column 'pic'"):
        list(Jsonl(tmp_path / "a.jsonl", files=["pic"]))
    with pytest.raises(SourceError, match="line 1: tower 'w' reads files, so a path is expected, got int 2"):
        list(Jsonl(tmp_path / "a.jsonl", files=["w"]))
    for wrong in ("caption", {}, []):
        with pytest.raises(ValueError, match="give tower names"):
            Jsonl(tmp_path / "a.jsonl", towers=wrong)


BAD_LINES = [
    (b'{"text": "a"', "a JSON object is expected"),
    (b'["a"]', "expected, got list"),
    (b'{"text": "\xff"}', "utf-8"),
    (b'{"text": "a", "id": [1]}', "column 'id' must be a string or a whole number, got list"),
    (b'{"text": "a", "id": true}', "column 'id' must be"),
    (b'{"text": "a", "weight": -1}', "column 'weight' must be a number of at least 0, got int -1"),
    (b'{"text": "a", "weight": "heavy"}', "column 'weight' must be a number"),
    (b'{"text": "a", "weight": Infinity}', "column 'weight' must be a number"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_bad_line_is_named_and_the_rest_can_be_read(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "one"}\n\n' + line + b'\n{"text": "four"}\n')
    with pytest.raises(SourceError, match=f"rows.jsonl, line 3: .*{message}"):
        list(Jsonl(path))
    faults: list[SourceError] = []
    assert [record["text"] for record in Jsonl(path, on_error=faults.append)] == ["one", "four"]
    assert len(faults) == 1 and "line 3" in str(faults[0])


def test_a_jsonl_line_without_any_tower_is_named_at_once(tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", [{"caption": "a"}] * 3)
    with pytest.raises(SourceError, match="line 1: no column 'text'"):
        next(iter(Jsonl(path, towers=["text"])))
    # a tower that only some lines have is fine, one that none has is a typo
    path = jsonl(tmp_path / "some.jsonl", [{"caption": "a"}, {"caption": "b", "code": "c"}])
    assert [len(r.items) for r in Jsonl(path, towers=["caption", "code"])] == [1, 2]
    with pytest.raises(SourceError, match="all 2 rows: no column 'codes'; did you mean 'code'"):
        list(Jsonl(path, towers=["caption", "codes"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,code\na,b\nc\n", "line 3: 2 cells are expected, got 1"),
        ("text,code\na,b,c\n", "line 2: 2 cells are expected, got 3"),
        ('text,code\n"x\ny",b\n"a,b\n', "line 4: .*unexpected end of data"),
        ("", "line 1: a header line"),
        ("text,text\n", "column 'text' occurs twice"),
        (",text\n1,a\n", "column 1 has no name"),
    ],
)
def test_a_bad_table_is_named(tmp_path, text, message):
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(SourceError, match=message):
        list(Csv(tmp_path / "rows.csv"))


def test_csv_as_spreadsheets_write_it(tmp_path):
    path = tmp_path / "rows.tsv"
    gene = "ACGT" * 50_000  # longer than the csv module's own limit
    path.write_bytes(f'\ufefftext\tdna\r\n"a\nb"\t{gene}\r\n\r\n"say ""hi"""\tA\r\n'.encode())
    one, two = open_source(path)
    assert one["text"] == "a\nb" and one["dna"] == gene and one.id == "2"
    assert two["text"] == 'say "hi"' and two.id == "5", "the line where the row begins"
    assert Csv(path, delimiter="\t")[0] == one
    with pytest.raises(ValueError, match="one character"):
        Csv(path, delimiter="||")
    faults: list[SourceError] = []
    path.write_bytes(b"text,n\na,1\n\xff,2\nb\nc,3\n")
    assert [r["text"] for r in Csv(path, on_error=faults.append)] == ["a", "c"]
    assert ["line 3" in str(faults[0]), "line 4" in str(faults[1])] == [True, True]


def test_gzip_is_unpacked_and_a_cut_one_named(tmp_path):
    whole = gzip.compress(b"".join(b'{"text": "%d"}\n' % i for i in range(5000)))
    (tmp_path / "a.jsonl.gz").write_bytes(whole)
    assert len(open_source(tmp_path / "a.jsonl.gz")) == 5000
    (tmp_path / "b.jsonl.gz").write_bytes(whole[:-500])
    with pytest.raises(SourceError, match=r"b\.jsonl\.gz: damaged or cut off"):
        list(open_source(tmp_path / "b.jsonl.gz"))
    (tmp_path / "c.csv.gz").write_bytes(b"text\na\n")
    with pytest.raises(SourceError, match=r"c\.csv\.gz: damaged"):
        list(open_source(tmp_path / "c.csv.gz"))


def test_iterating_streams(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\nnot json\n')
    assert [r["text"] for r in islice(Jsonl(path), 2)] == ["one", "two"], "the bad third line was not read yet"


def test_ids_must_be_unique_where_records_are_kept(tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", [{"id": 1, "text": "a"}, {"id": "1", "text": "b"}])
    for use in (len, lambda source: source[0]):
        with pytest.raises(ValueError, match="'1' occurs twice"):
            use(Jsonl(path))


def test_whole_numbers_are_ids_even_as_floats(tmp_path):
    source = open_source(table(tmp_path, ".parquet", [{"id": 7.0, "text": "a"}, {"id": None, "text": "b"}]))
    assert [record.id for record in source] == ["7", "1"]


def test_parquet_folder_is_one_table(tmp_path):
    import pyarrow
    from pyarrow import parquet

    for name in ("b", "a"):
        parquet.write_table(pyarrow.table({"text": [f"{name}0", f"{name}1"]}), tmp_path / f"{name}.parquet")
    source = open_source(tmp_path)
    assert isinstance(source, Parquet)
    assert [(r.id, r["text"]) for r in source] == [("a:0", "a0"), ("a:1", "a1"), ("b:0", "b0"), ("b:1", "b1")]
    parquet.write_table(pyarrow.table({"txt": ["x"]}), tmp_path / "c.parquet")
    with pytest.raises(SourceError, match=r"c\.parquet: no column 'text'; did you mean 'txt'"):
        list(Parquet(tmp_path, towers=["text"]))


def test_damaged_parquet_is_named(tmp_path):
    path = table(tmp_path, ".parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"rows\.parquet: damaged, or not Parquet"):
        list(open_source(path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"no \.parquet file"):
        list(Parquet(tmp_path / "empty"))


def test_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    path = table(tmp_path, ".parquet", ROWS)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'coembed\[parquet\]'"):
        list(open_source(path))


def test_unknown_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl: no such file"):
        Jsonl(tmp_path / "nowhere.jsonl")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ValueError, match=r"a.xlsx: no source reads this; use .jsonl"):
        open_source(tmp_path / "a.xlsx")


@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet"])
def test_registered_names_build_the_same(tmp_path, name):
    path = table(tmp_path, f".{name}", ROWS)
    built = coembed.load(name, "source", path=path, towers=["caption"])
    assert built.spec.name == name and [r.items for r in built] == [r.items for r in open_source(path, ["caption"])]


def test_groups_stay_together_in_a_split(tmp_path):
    rows = [{"id": i, "text": str(i), "group": f"g{i // 4}"} for i in range(400)]
    train, held = Jsonl(jsonl(tmp_path / "rows.jsonl", rows)).split(0.2)
    assert len(train) + len(held) == 400 and 40 < len(held) < 120
    assert not {r.group for r in train} & {r.group for r in held}
