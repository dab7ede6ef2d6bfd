"""Folders of files and datasets objects as sources."""

from __future__ import annotations

from pathlib import Path

import pytest

import coembed
from coembed.sources import Folder, HfDataset, Record, SourceError, open_source

TOWERS = {"image": [".png", ".JPG"], "text": ".txt"}


@pytest.fixture
def files(tmp_path):
    for name, content in {
        "cat.png": b"1",
        "cat.txt": "a cät\n".encode(),
        "dogs/rex.jpg": b"2",
        "dogs/rex.txt": b"",
        "dogs/rex.notes": b"",
        "dogs/tom.v2.txt": b"\xef\xbb\xbftom",
        ".hidden/x.png": b"",
        "dogs/.x.png": b"",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_files_of_one_stem_are_one_record(files):
    source = Folder(files, towers=TOWERS)
    assert list(source) == [
        Record({"image": files / "cat.png", "text": "a cät"}, id="cat"),
        Record({"image": files / "dogs/rex.jpg"}, id="dogs/rex"),  # its text is empty
        Record({"text": "tom"}, id="dogs/tom.v2"),
    ]
    assert source.towers == ("image", "text") and len(source) == 3 and source[1].id == "dogs/rex"
    assert list(open_source(files, TOWERS)) == list(source)
    assert list(coembed.load("folder", "source", path=files, towers=TOWERS)) == list(source)


def test_longest_suffix_wins_and_text_can_be_chosen(tmp_path):
    for name in ("a.en.txt", "a.txt", "a.py"):
        (tmp_path / name).write_text(name)
    towers = {"english": ".en.txt", "text": ".txt", "code": ".py"}
    (record,) = Folder(tmp_path, towers=towers)
    assert record.items == {"english": "a.en.txt", "text": "a.txt", "code": tmp_path / "a.py"}
    assert Folder(tmp_path, towers=towers, text=[".py"])[0]["code"] == "a.py"


def test_folder_names_as_labels_and_groups(files):
    source = Folder(files, towers=TOWERS, label="folder", group="folder")
    assert [(r.label, r.group) for r in source] == [(None, None), ("dogs", "dogs"), ("dogs", "dogs")]
    with pytest.raises(ValueError, match="label='kind': of files it can only be 'folder'"):
        Folder(files, towers=TOWERS, label="kind")


def test_bad_folders_are_named(files):
    with pytest.raises(NotADirectoryError, match="nowhere: no such folder"):
        Folder(files / "nowhere", towers=TOWERS)
    with pytest.raises(SourceError, match=r"no file for tower 'audio' \(\.wav\); the folder has .*\.png"):
        list(Folder(files, towers={"audio": ".wav"}))
    (files / "cat.jpg").touch()
    with pytest.raises(SourceError, match=r"cat\.jpg and cat\.png are both the image of one record"):
        list(Folder(files, towers=TOWERS))
    (files / "dogs/tom.v2.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match=r"tom\.v2\.txt: UTF-8 text is expected"):
        list(Folder(files, towers={"text": ".txt"}))


@pytest.mark.parametrize(
    ("towers", "message"),
    [
        (None, "needs towers="),
        (["image"], "needs towers="),
        ({"image": "png"}, "suffix 'png' must begin with a dot"),
        ({"image": ".png", "mask": [".PNG"]}, "given to two towers, 'image' and 'mask'"),
    ],
)
def test_bad_suffixes_are_named(files, towers, message):
    with pytest.raises(ValueError, match=message):
        open_source(files, towers)


@pytest.fixture
def dataset():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "caption": datasets.Value("string"),
            "kind": datasets.ClassLabel(names=["cat", "dog"]),
            "family": datasets.Value("int64"),
        }
    )
    rows = {"caption": ["a cat", None, "a dog"], "kind": [0, -1, 1], "family": [7, 8, 9]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_datasets_object(dataset):
    source = HfDataset(dataset, towers={"text": "caption"}, label="kind", group="family")
    assert list(source) == [
        Record({"text": "a cat"}, id="0", group="7", label="cat"),
        Record({}, id="1", group="8", label=None),
        Record({"text": "a dog"}, id="2", group="9", label="dog"),
    ]
    assert len(source) == 3 and source[-1] == source[2] and source.towers == ("text",)
    assert source[0] == next(iter(source))
    with pytest.raises(IndexError, match="position 3: the dataset has 3 rows"):
        source[3]
    with pytest.raises(IndexError, match="position -4"):
        source[-4]
    assert coembed.load("datasets", "source", dataset=dataset, towers=["caption"])[0]["caption"] == "a cat"


def test_pictures_of_a_dataset_are_decoded():
    datasets = pytest.importorskip("datasets")
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 3), "red")
    features = datasets.Features({"image": datasets.Image()})
    (record,) = HfDataset(datasets.Dataset.from_dict({"image": [image]}, features=features))
    assert record["image"].size == (4, 3) and record["image"].getpixel((0, 0)) == (255, 0, 0)


def test_other_objects_are_refused_by_name(dataset):
    import datasets

    with pytest.raises(TypeError, match="one split: choose of train, test"):
        HfDataset(datasets.DatasetDict(train=dataset, test=dataset))
    with pytest.raises(TypeError, match="load it first"):
        HfDataset("org/name")
    with pytest.raises(TypeError, match="got IterableDataset"):
        HfDataset(dataset.to_iterable_dataset())
    with pytest.raises(SourceError, match="the dataset: no column 'captoin'; did you mean 'caption'"):
        HfDataset(dataset, towers={"text": "captoin"})


def test_reading_is_repeatable(files):
    source = Folder(Path(str(files)), towers=TOWERS)
    assert list(source) == list(source)
