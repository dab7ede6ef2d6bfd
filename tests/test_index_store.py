"""The index's folder: it grows, keeps its last good state whatever happens, and is read while it is written."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time

import pytest
import torch

from coembed import Embedding
from coembed.index import Exact, IndexFileError, open_index, writing


def vectors(n: int, dim: int = 16, seed: int = 0) -> Embedding:
    return Embedding.from_vectors(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))).normalize()


def names(n: int, start: int = 0) -> list[str]:
    return [f"id{i}" for i in range(start, start + n)]


def filled(x: Embedding) -> Exact:
    index = Exact()
    index.add(names(len(x)), x, [{"n": i} for i in range(len(x))])
    return index


def segment(folder):
    (path,) = folder.glob("part-*.safetensors")
    return path


def test_what_grows_equals_what_was_made_at_once(tmp_path):
    x, q = vectors(300), vectors(7, seed=1)
    index = Exact()
    index.save(tmp_path / "index")
    generator = random.Random(0)
    there: dict[str, int] = {}
    for step in range(12):
        index = open_index(tmp_path / "index") if step % 2 else index
        new = names(20, 20 * step)
        index.add(new, x[20 * step : 20 * step + 20], [{"n": i} for i in range(20 * step, 20 * step + 20)])
        there |= {name: int(name[2:]) for name in new}
        gone = generator.sample(sorted(there), 5)
        index.delete(gone)
        for name in gone:
            del there[name]
        name = generator.choice(sorted(there))
        index.update([name], x[299 - step : 300 - step], [{"n": 299 - step}])
        del there[name]
        there[name] = 299 - step
        if step == 7:
            index.compact()
        index.save(tmp_path / "index")
        once = Exact()
        once.add(list(there), x[list(there.values())], [{"n": n} for n in there.values()])
        for one in (index, open_index(tmp_path / "index")):
            assert one.ids == list(there) and len(one) == len(there)
            assert one.search(q, k=30) == once.search(q, k=30)
            assert one.search(q, k=30, where="n > 100") == once.search(q, k=30, where="n > 100")
    files = {path.name for path in (tmp_path / "index").iterdir()}
    assert files == {".lock", *json.loads((tmp_path / "index/index.json").read_text())["files"]}, "nothing is left over"


def test_adding_a_little_writes_a_little(tmp_path):
    index = filled(vectors(2000))
    index.save(tmp_path)
    big = segment(tmp_path)
    inode, size = big.stat().st_ino, big.stat().st_size
    index = open_index(tmp_path)
    index.add(["new"], vectors(1, seed=5), ["payload"])
    index.delete(["id7"])
    index.save(tmp_path)
    assert big.stat().st_ino == inode and big.stat().st_size == size
    assert sum(path.stat().st_size for path in tmp_path.iterdir() if path != big) < size / 10
    again = open_index(tmp_path)
    assert "id7" not in again and again.search(vectors(1, seed=5), k=1)[0][0].payload == "payload"


def test_many_small_additions_are_merged(tmp_path):
    for step in range(30):
        index = open_index(tmp_path / "index") if step else Exact()
        index.add(names(3, 3 * step), vectors(3, seed=step))
        index.save(tmp_path / "index")
    assert len(list((tmp_path / "index").glob("part-*"))) <= 9 and open_index(tmp_path / "index").ids == names(90)


def test_compacting_gives_the_bytes_back(tmp_path):
    index = filled(vectors(2000))
    index.save(tmp_path)
    size = segment(tmp_path).stat().st_size
    index.delete(names(1900))
    index.save(tmp_path)
    index.compact()
    index.save(tmp_path)
    assert segment(tmp_path).stat().st_size < size / 10 and open_index(tmp_path).ids == names(100, 1900)


def test_a_refused_update_changes_nothing(tmp_path):
    index = filled(vectors(5))
    for ids, x, message in (
        (["id1", "id1"], vectors(2), "there already"),
        (["id1"], vectors(1, 5), "width 16, got width 5"),
        (["id1"], Embedding.from_vectors(torch.full((1, 16), torch.nan)), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            index.update(ids, x)
        assert index.ids == names(5)
    index.update(["id1", "new"], vectors(2, seed=3), ["a", "b"])
    assert index.ids == ["id0", "id2", "id3", "id4", "id1", "new"]


def test_staged_rows_count_once_saved(tmp_path):
    filled(vectors(3)).save(tmp_path / "index")
    index = Exact()
    with writing(tmp_path / "index"):
        for step in range(3):
            index.add(names(10, 10 * step), vectors(10, seed=step))
            index.delete([f"id{10 * step}"])
            index.stage(tmp_path / "index")
            assert len(open_index(tmp_path / "index")) == 3, "readers see the old state"
        index.save(tmp_path / "index")
    wanted = [name for name in names(30) if int(name[2:]) % 10]
    assert open_index(tmp_path / "index").ids == wanted == index.ids
    left = Exact()
    left.add(["x"], vectors(1))
    left.stage(tmp_path / "index")  # and never saved
    assert open_index(tmp_path / "index").ids == wanted
    assert len(list((tmp_path / "index").glob("part-*"))) == 6, "what was never saved is cleared away"


def test_a_second_writer_is_told_who_writes(tmp_path):
    filled(vectors(3)).save(tmp_path / "index")
    script = """
import sys, torch
from coembed import Embedding
from coembed.index import IndexFileError, open_index
index = open_index(sys.argv[1])
index.add(["other"], Embedding.from_vectors(torch.ones(1, 16)))
try:
    index.save(sys.argv[1])
except IndexFileError as error:
    print(error)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "index")]
    with writing(tmp_path / "index"):
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"process {os.getpid()} is writing to this index: wait until it is done" in told
    mine = open_index(tmp_path / "index")
    assert not subprocess.run(command, capture_output=True, text=True, check=True).stdout
    mine.add(["mine"], vectors(1))
    with pytest.raises(IndexFileError, match="was changed since this index was loaded from it: load it again"):
        mine.save(tmp_path / "index")
    assert open_index(tmp_path / "index").ids == [*names(3), "other"]
    mine.save(tmp_path / "elsewhere")
    assert open_index(tmp_path / "elsewhere").ids == [*names(3), "mine"]


def test_a_reader_sees_one_state_while_another_writes(tmp_path):
    """Every state has rows that are all of one step; a reader that mixed two would see both."""
    folder, x = tmp_path / "index", vectors(40)
    index, done = Exact(), threading.Event()
    index.save(folder)

    def write() -> None:
        for step in range(40):
            index.update(names(40), x, [step] * 40)
            if step % 3 == 0:
                index.compact()
            index.save(folder)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    states = set()
    while not done.is_set():
        seen = open_index(folder)
        time.sleep(0.002)  # the files may be gone by now; the snapshot stays
        steps = {hit.payload for row in seen.search(x, k=40) for hit in row}
        assert len(steps) <= 1 and len(seen) in (0, 40)
        states |= steps
    writer.join()
    assert len(states) > 2, "it read while the other wrote"


KILLED = """
# Forks writers and kills them: one process of its own, so that torch is imported once and no thread is forked.
import os, random, signal, sys, time
import torch
from coembed import Embedding
from coembed.index import Exact, open_index

torch.set_num_threads(1)
folder, moments = sys.argv[1], random.Random(1)

def rows(step):
    return Embedding.from_vectors(torch.randn(20, 64, generator=torch.Generator().manual_seed(step)))

def write(tell):
    index = open_index(folder)
    step = len(index) // 10
    os.write(tell, b"ready ")
    while True:
        index.add([f"{step}-{i}" for i in range(20)], rows(step))
        index.delete([f"{step}-{i}" for i in range(0, 20, 2)])
        if step % 5 == 4:
            index.compact()
        index.save(folder)
        step += 1
        os.write(tell, f"{step} ".encode())

Exact().save(folder)
whole = 0
for _ in range(24):
    hear, tell = os.pipe()
    child = os.fork()
    if not child:
        write(tell)
    os.close(tell)
    said = os.read(hear, 6).decode()
    assert said == "ready ", said
    time.sleep(moments.uniform(0, 0.25))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    said = os.read(hear, 1 << 16).decode().split()
    os.close(hear)
    index = open_index(folder)
    steps = len(index) // 10
    assert index.ids == [f"{step}-{i}" for step in range(steps) for i in range(1, 20, 2)], "one whole state"
    assert steps >= max([whole, *map(int, said)]), "nothing that was saved is lost"
    whole = steps
    for step in random.Random(steps).sample(range(steps), min(steps, 3)):
        assert index.search(rows(step)[1:2], k=1)[0][0].id == f"{step}-1"
print(whole)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_any_moment_it_keeps_the_last_good_state(tmp_path):
    folder = tmp_path / "index"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    assert int(done.stdout) > 5, "it was killed at work"
    index = open_index(folder)
    index.add(["last"], vectors(1, 64))
    index.save(folder)
    files = {path.name for path in folder.iterdir()}
    assert files == {".lock", *json.loads((folder / "index.json").read_text())["files"]}, "what the dead left is gone"


def test_what_a_dead_writer_of_vectors_left_is_cleared_away(tmp_path, monkeypatch):
    filled(vectors(3)).save(tmp_path / "index")

    def dies(tensors, path, metadata=None):
        """As safetensors, which begins with a file of a random name beside its target."""
        path.with_name(".tmpXy12").write_bytes(b"half")
        raise SystemExit

    monkeypatch.setattr("safetensors.torch.save_file", dies)
    for place in ("coembed.weights", "coembed.index.folder"):  # nor does it clear up, as after a kill
        monkeypatch.setattr(f"{place}.remove", lambda path: None)
    with pytest.raises(SystemExit):
        filled(vectors(4)).save(tmp_path / "index")
    monkeypatch.undo()
    (left,) = set(tmp_path.glob("index/*/.tmp*"))
    index = open_index(tmp_path / "index")
    assert index.ids == names(3)
    index.add(["new"], vectors(1, seed=2))
    index.save(tmp_path / "index")
    assert not left.exists() and not left.parent.exists() and len(open_index(tmp_path / "index")) == 4


def test_half_of_a_surrogate_pair_is_kept(tmp_path):
    index = Exact()
    index.add(["a", "b"], vectors(2), ["\ud800.txt", {"name": "\udcff", "year": 3}])
    index.save(tmp_path / "index")
    again = Exact.load(tmp_path / "index")
    assert again.search(vectors(2)[:1], k=1)[0][0].payload == "\ud800.txt"
    assert [hit.id for hit in again.search(vectors(2)[:1], k=2, where="year == 3")[0]] == ["b"]
