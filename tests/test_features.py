"""The feature store: exact about what is stale, shared by processes, mapped and not loaded, whole after accidents."""

from __future__ import annotations

import json
import multiprocessing
import os
import time

import numpy as np
import pytest
import torch

import coembed
from coembed import Embedding, features, shardfolder
from coembed.features import FeatureStore, item_keys
from coembed.rows import Rows
from coembed.shardfolder import INDEX, Table
from coembed.testing import ToyEncoder, toy_encoder

WORDS = ["red", "green", "blue", "cat", "dog", "fish", "sun", "moon", "star", "tree", "rock", "sea"]


class Counting(ToyEncoder):
    """Counts the rows it encodes."""

    seen = 0

    def forward(self, batch, layer=None):
        """As ToyEncoder."""
        self.seen += len(batch["ids"])
        return super().forward(batch, layer)


def tower(pool="native", **options):
    return coembed.Tower(Counting(toy_encoder(dim=8).spec, **options), "linear", dim=4, pool=pool)


def shards(root):
    return sorted(path for path in root.rglob("*.safetensors") if path.name != INDEX)


@pytest.fixture
def small_chunks(monkeypatch):
    """A shard every three items, and never so many that they are joined."""
    monkeypatch.setattr(features, "CHUNK", 3)
    monkeypatch.setattr(features, "SECONDS", -1.0)
    monkeypatch.setattr(shardfolder, "MANY", 10**6)


def test_rows_gather_from_many_shards_as_from_one_tensor(tmp_path, small_chunks):
    part = tower()
    rows = FeatureStore(tmp_path).rows(part, WORDS)
    assert isinstance(rows, Rows) and len(shards(tmp_path)) == 4 and len(rows) == 12 and rows.dim == 8
    whole = part.encoder.encode(WORDS)
    torch.testing.assert_close(rows[:].vectors, whole.vectors)
    at = [11, 0, 5, 5, 2]
    assert torch.equal(rows[at].vectors, rows[:].vectors[at])
    assert torch.equal(rows[torch.tensor(at)].vectors, rows[:].vectors[at])
    assert torch.equal(rows[3:7].vectors, rows[:].vectors[3:7])
    assert rows[[]].values.shape == (0, 1, 8)


def test_multi_vectors_keep_their_lengths(tmp_path, small_chunks):
    part, items = tower(pool="none"), [*WORDS, "a much longer one", "x"]
    rows = FeatureStore(tmp_path).rows(part, items)
    got, want = rows[[12, 3, 13]], part.encoder(part.encoder.collate([items[i] for i in (12, 3, 13)]))
    assert torch.equal(got.mask, want.mask)
    torch.testing.assert_close(got.values[got.mask], want.values[want.mask])
    assert rows[[13]].values.shape[1] == 1, "padded to the longest of the batch, not of all"


def test_an_opened_store_computes_nothing_and_reads_no_shard_again(tmp_path, small_chunks, monkeypatch):
    first = tower()
    FeatureStore(tmp_path).rows(first, WORDS)
    verified = []
    real = shardfolder.read
    monkeypatch.setattr(shardfolder, "read", lambda p, verify=False: verified.append(verify) or real(p, verify=verify))
    second = tower()
    rows = FeatureStore(tmp_path).rows(second, WORDS[::-1])
    assert second.encoder.seen == 0 and not any(verified)
    assert torch.equal(rows[:].values, FeatureStore(tmp_path).features(first, WORDS).values.flip(0))


def test_without_its_index_a_store_is_as_before(tmp_path, small_chunks):
    FeatureStore(tmp_path).rows(tower(), WORDS)
    (index,) = tmp_path.rglob(INDEX)
    for damage in (index.unlink, lambda: index.write_bytes(b"nonsense"), lambda: flip(index)):
        damage()
        again = tower()
        FeatureStore(tmp_path).rows(again, WORDS)
        assert again.encoder.seen == 0


def flip(path, place=-5):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("damage", [flip, cut, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
@pytest.mark.parametrize("opened", [True, False])
def test_a_damaged_shard_costs_its_own_rows(tmp_path, small_chunks, damage, opened):
    store, part = FeatureStore(tmp_path), tower()
    first = store.features(part, WORDS)
    damage(shards(tmp_path)[1])
    part.encoder.seen = 0
    again = (store if opened else FeatureStore(tmp_path)).features(part, WORDS)
    assert part.encoder.seen == 3, "only the damaged shard's rows are computed again"
    torch.testing.assert_close(again.values, first.values)


def test_a_half_written_file_is_no_shard(tmp_path, small_chunks):
    store, part = FeatureStore(tmp_path), tower()
    store.rows(part, WORDS)
    part_file = shards(tmp_path)[0].with_name(".left.safetensors.1-ab.part")
    part_file.write_bytes(b"half")
    store.rows(part, WORDS)
    assert part.encoder.seen == 12
    assert store.prune() == 0 and part_file.exists(), "it may be a running process's"
    os.utime(part_file, (1, 1))
    assert store.prune() == 4 and not part_file.exists()


def test_an_interrupted_run_keeps_what_it_had(tmp_path, small_chunks):
    class Stops(Counting):
        def forward(self, batch, layer=None):
            if self.seen >= 6:
                raise KeyboardInterrupt
            return super().forward(batch, layer)

    part = tower()
    stops = coembed.Tower(Stops(part.encoder.spec), "linear", dim=4)
    with pytest.raises(KeyboardInterrupt):
        FeatureStore(tmp_path).rows(stops, WORDS)
    FeatureStore(tmp_path).rows(part, WORDS)
    assert part.encoder.seen == 6


def test_a_bad_item_keeps_its_place_and_what_was_before_it(tmp_path, small_chunks):
    part = tower()
    with pytest.raises(coembed.BadItem, match="item 7"):
        FeatureStore(tmp_path).rows(part, [*WORDS[:7], 7, *WORDS[7:]])
    before = part.encoder.seen
    FeatureStore(tmp_path).rows(part, WORDS)
    assert before == 6 and part.encoder.seen == 12


def test_many_small_shards_become_few(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 2)
    monkeypatch.setattr(features, "SECONDS", -1.0)
    monkeypatch.setattr(shardfolder, "MANY", 3)
    monkeypatch.setattr(shardfolder, "SMALL", 3000)  # bytes of a file
    for pool in ("native", "none"):
        store, part = FeatureStore(tmp_path / pool), tower(pool)
        early = store.rows(part, WORDS[:4])
        kept = early[:].values
        rows = store.rows(part, WORDS)
        assert len(shards(tmp_path / pool)) <= 4 < len(WORDS) / 2
        again = FeatureStore(tmp_path / pool).rows(part, WORDS)
        assert part.encoder.seen == 12, "joined shards lose nothing"
        assert torch.equal(again[:].values, rows[:].values)
        assert torch.equal(early[:].values, kept), "rows that were open stay readable"


def test_a_process_finds_its_rows_where_another_has_joined_them(tmp_path, small_chunks, monkeypatch):
    mine, part = FeatureStore(tmp_path), tower()
    first = mine.rows(part, WORDS)[:]
    mine._folders.clear()  # as a process that knows the table but has not opened a shard yet
    folder = mine._enter(part, "")
    monkeypatch.setattr(shardfolder, "MANY", 1)
    FeatureStore(tmp_path).rows(part, [*WORDS, "one more"])
    assert len(shards(tmp_path)) == 1
    monkeypatch.setattr(folder, "refresh", lambda real=folder.refresh, calls=[]: calls.append(1) or real())
    mine._enter = lambda *_: folder  # type: ignore[method-assign]  # without the look that a call begins with
    assert torch.equal(mine.rows(part, WORDS)[:].values, first.values)
    assert part.encoder.seen == 13


def stale(part):
    """Changes to a tower after which its features are others."""
    encoder = part.encoder

    def in_place():
        with torch.no_grad():
            encoder.table.weight[3, 2] += 1

    def data():
        encoder.table.weight.data[3, 2] += 1  # leaves no version behind

    def numpy():
        encoder.table.weight.detach().numpy()[3, 2] += 1

    def swapped():
        encoder.table.weight.data[[0, 1]] = encoder.table.weight.data[[1, 0]]  # the same numbers elsewhere

    def replaced():
        encoder.table.weight = torch.nn.Parameter(encoder.table.weight + 1)

    def pooling():
        encoder.pooling = coembed.nn.First()

    def prompts():
        encoder.prompts["query"] = "q: "

    def assets():
        encoder.save_assets = lambda folder: (folder / "vocabulary").write_text("other")

    def argument():
        object.__setattr__(encoder, "spec", coembed.EncoderSpec(**{**vars(encoder.spec), "kwargs": {"length": 3}}))

    return {f.__name__: f for f in (in_place, data, numpy, swapped, replaced, pooling, prompts, assets, argument)}


@pytest.mark.parametrize("change", list(stale(tower())))
def test_a_changed_encoder_never_meets_old_rows(tmp_path, change):
    store, part = FeatureStore(tmp_path), tower()
    before = store.folder(part, "")
    assert store.folder(part, "") == before == store.folder(tower(), ""), "equal encoders share rows"
    stale(part)[change]()
    assert store.folder(part, "") != before


def test_prompt_pooling_and_storage_are_part_of_the_setting(tmp_path):
    store = FeatureStore(tmp_path)
    found = {store.folder(tower(), ""), store.folder(tower(), "query: "), store.folder(tower("mean"), "")}
    assert len(found | {FeatureStore(tmp_path, dtype=torch.bfloat16).folder(tower(), "")}) == 4


def test_weights_are_hashed_once_a_state(monkeypatch):
    from coembed import fingerprint

    hashed = []
    monkeypatch.setattr(fingerprint, "_digest", lambda state, real=fingerprint._digest: hashed.append(1) or real(state))
    encoder = toy_encoder(dim=8)
    for _ in range(3):
        encoder.fingerprint()
    assert len(hashed) == 1
    with torch.inference_mode():
        odd = torch.nn.Module()
        odd.register_buffer("x", torch.zeros(3, dtype=torch.bfloat16))
    before = fingerprint.weights_digest(odd)
    odd.x.data.view(torch.int16)[1] = 1
    assert fingerprint.weights_digest(odd) != before, "also a tensor without a version, of an odd size"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_storage_takes_half_the_space_and_gives_float32(tmp_path, dtype):
    part = tower()
    store = FeatureStore(tmp_path, dtype=dtype)
    rows = store.rows(part, WORDS)
    assert rows.shards[0].values.dtype == dtype and rows[[0]].values.dtype == torch.float32
    want = part.encoder.encode(WORDS).values.to(dtype).float()
    torch.testing.assert_close(rows[:].values, want)
    with pytest.raises(ValueError, match=r"can't be kept as torch\.int8"):
        FeatureStore(tmp_path, dtype=torch.int8)


def test_double_features_stay_double(tmp_path):
    part = tower().double()
    assert FeatureStore(tmp_path).features(part, WORDS).values.dtype == torch.float64


def work(root, seed, ready, out):
    """A process: features of all words in an order of its own."""
    torch.set_num_threads(1)
    features.CHUNK, features.SECONDS, shardfolder.MANY = 5, -1.0, 6
    words = [f"word {i}" for i in range(150)]
    order = np.random.default_rng(seed).permutation(len(words))
    ready.wait()
    for share in (50, 100, 150):
        rows = FeatureStore(root).rows(tower(), [words[i] for i in order[:share]])[:]
    back = np.empty(len(words), np.int64)
    back[order] = np.arange(len(words))
    np.save(out, rows.vectors[back].numpy())


def test_processes_write_and_read_one_store_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, store = context.Barrier(3), tmp_path / "store"
    outs = [tmp_path / f"{i}.npy" for i in range(3)]
    running = [context.Process(target=work, args=(store, i, ready, out)) for i, out in enumerate(outs)]
    for process in running:
        process.start()
    for process in running:
        process.join(120)
    assert [process.exitcode for process in running] == [0] * 3
    want = tower().encoder.encode([f"word {i}" for i in range(150)]).vectors.numpy()
    for out in outs:
        np.testing.assert_allclose(np.load(out), want, rtol=1e-5, atol=1e-6)
    last = tower()
    FeatureStore(store).rows(last, [f"word {i}" for i in range(150)])
    assert last.encoder.seen == 0 and not list(store.rglob("*.part"))


def test_info_and_prune(tmp_path):
    store = FeatureStore(tmp_path)
    store.rows(tower(), WORDS, prompt="query: ")
    store.rows(tower(pool="mean"), WORDS[:6])
    old, new = store.info()
    assert (old.encoder, old.prompt, old.pool, new.pool) == ("toy/bytes", "query: ", "native", "mean")
    assert old.nbytes > new.nbytes > 0
    assert store.prune() == 0 and len(store.info()) == 2, "nothing is old"
    os.utime(old.folder / features.SETTING, (time.time() - 40 * 86400,) * 2)
    assert store.prune() == old.nbytes and [one.pool for one in store.info()] == ["mean"]
    assert store.prune(keep_bytes=0) == new.nbytes and not store.info()
    again = tower(pool="mean")
    store.rows(again, WORDS)
    assert again.encoder.seen == 12, "a store goes on after it was pruned"
    assert json.loads((store.info()[0].folder / features.SETTING).read_text())["dtype"] == "None"


def test_the_table_finds_keys_that_share_their_first_half():
    keys = np.zeros((40, 16), np.uint8)
    keys[:, 0] = np.arange(40) // 10  # four first halves, ten keys each
    keys[:, 15] = np.arange(40)
    table = Table().with_shards({"a": ((1, 1), keys[::2]), "b": ((1, 1), keys[:30])})
    at = table.find(keys)
    assert (at >= 0).tolist() == [i < 30 or i % 2 == 0 for i in range(40)]
    for i in np.flatnonzero(at >= 0):
        name, row = list(table.names)[table.shard[at[i]]], table.row[at[i]]
        assert (name, row) == (("a", i // 2) if i % 2 == 0 else ("b", i)), "of equal keys the first shard's"
    left = table.kept(["b"])
    assert (left.find(keys) >= 0).sum() == 15, "what only stood under a is gone with it"
    assert Table().find(keys).tolist() == [-1] * 40


def test_keys_of_any_length_and_items_without(tmp_path):
    class Odd(Counting):
        def key(self, item):
            if item == "none":
                raise TypeError("no key for it")
            return item.encode()

    encoder = Odd(toy_encoder(dim=8).spec)
    keys = item_keys(encoder, ["a", "bc", "a"])
    assert keys.shape == (3, 16) and (keys[0] == keys[2]).all() and (keys[0] != keys[1]).any()
    part = coembed.Tower(encoder, "linear", dim=4)
    with pytest.warns(coembed.CoembedWarning, match="not cached"):
        assert isinstance(FeatureStore(tmp_path).rows(part, ["none", "a"]), Embedding)
