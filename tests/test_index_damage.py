"""A damaged, missing or foreign folder is named; saving never removes what is not an index."""

from __future__ import annotations

import errno
import json

import pytest
import torch

from coembed import Embedding
from coembed.index import Exact, IndexFileError, open_index
from coembed.plugins import PluginError


def vectors(n: int, dim: int = 16, seed: int = 0) -> Embedding:
    return Embedding.from_vectors(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))).normalize()


def filled(x: Embedding) -> Exact:
    index = Exact()
    index.add([f"id{i}" for i in range(len(x))], x, [{"n": i} for i in range(len(x))])
    return index


def segment(folder):
    (path,) = folder.glob("part-*.safetensors")
    return path


def damage(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("index.json", lambda b: b[:20], r"index\.json: damaged"),
        ("index.json", lambda b: b"[]", r"index\.json: damaged: it names no kind"),
        ("index.json", lambda b: b.replace(b'"format": 2', b'"format": 3'), "format 3, this coembed reads 2: upgrade"),
        ("index.json", lambda b: b.replace(b'"dim"', b'"dimm"'), r"index\.json: damaged: it does not say dim"),
        ("index.json", lambda b: b.replace(b'"rows": 30', b'"rows": 31'), "does not fit"),
        ("index.json", lambda b: b.replace(b'"live": 30', b'"live": 31'), "does not fit"),
        ("index.json", lambda b: b.replace(b'"count": 30', b'"count": 31'), "does not fit"),
        ("part", lambda b: b[:-8], r"part-.*\.safetensors: damaged or cut off"),
        ("part", lambda b: b"", r"part-.*\.safetensors: damaged or cut off"),
        ("part", lambda b: b.replace(b'"id_ends"', b'"id_endz"'), r"part-.*\.safetensors: damaged: .*id_ends"),
    ],
)
def test_damage_is_named_with_its_file(tmp_path, name, change, message):
    filled(vectors(30)).save(tmp_path)
    damage(tmp_path / name if name == "index.json" else segment(tmp_path), change)
    with pytest.raises(IndexFileError, match=message):
        open_index(tmp_path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(IndexFileError, match=r"nothing is not a saved index: it has no index\.json"):
        open_index(tmp_path / "nothing")
    filled(vectors(3)).save(tmp_path / "index")
    segment(tmp_path / "index").unlink()
    with pytest.raises(IndexFileError, match=r"part-.*: no such"):
        Exact.load(tmp_path / "index")


def test_a_folder_names_a_registered_kind_never_code(tmp_path):
    filled(vectors(3)).save(tmp_path)
    path = tmp_path / "index.json"
    for kind in ("os:system", "coembed.index:Exact", "exakt", "no/such"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "kind": kind}))
        with pytest.raises(PluginError):
            open_index(tmp_path)
        with pytest.raises(IndexFileError, match="not exact; open_index reads any kind"):
            Exact.load(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "kind": "linear"}))
    with pytest.raises(PluginError, match="linear is an aligner, but an index is needed"):
        open_index(tmp_path)


def test_saving_never_removes_what_is_not_an_index(tmp_path):
    index = filled(vectors(3))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(IndexFileError, match=r"holds letter\.txt but no index\.json"):
        index.save(tmp_path / "home")
    index.save(tmp_path / "index")
    (tmp_path / "index" / "letter.txt").write_text("dear")
    with pytest.raises(IndexFileError, match=r"holds letter\.txt, which is not part of the index"):
        index.save(tmp_path / "index")
    assert (tmp_path / "home" / "letter.txt").exists() and (tmp_path / "index" / "letter.txt").exists()
    with pytest.raises(IndexFileError, match="is a file"):
        index.save(tmp_path / "home" / "letter.txt")


def test_a_full_disk_leaves_the_last_state(tmp_path, monkeypatch):
    filled(vectors(3)).save(tmp_path / "index")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    for where in ("coembed.index.folder._sync", "safetensors.torch.save_file"):
        with monkeypatch.context() as patch:
            patch.setattr(where, full)
            with pytest.raises(OSError, match="No space left"):
                filled(vectors(9)).save(tmp_path / "index")
            with pytest.raises(OSError, match="No space left"):
                filled(vectors(9)).save(tmp_path / "new")
        assert len(open_index(tmp_path / "index")) == 3
        assert len(list((tmp_path / "index").iterdir())) == 3, "the lock, index.json and a segment"
        assert [p.name for p in tmp_path.iterdir()] == ["index"], "no folder is made for nothing"


def test_a_link_stays_a_link(tmp_path):
    filled(vectors(3)).save(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    filled(vectors(4)).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and len(open_index(tmp_path / "real")) == 4
