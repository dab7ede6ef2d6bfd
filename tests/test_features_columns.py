"""What a run knows of its records: columns, keys computed once, equal things, a digest, a bounded sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import coembed
from coembed import Contrast, Embedding, Record, Records, Space
from coembed.features import FeatureStore
from coembed.rows import Cached, Rows
from coembed.testing import ToyEncoder, toy_encoder
from coembed.training import frozen
from coembed.training.columns import Batch, Columns, linked, numbered, read_columns
from coembed.training.frozen import digest, frozen_features, sample

WORDS = ["red", "green", "blue", "cat", "dog", "fish", "sun", "moon", "star", "tree", "rock", "sea"]
THREE = [Record({"a": w, "b": w.upper()}, id=f"ab{w}") for w in WORDS] + [
    Record({"a": w, "c": w[::-1]}, id=f"ac{w}", weight=0.5) for w in WORDS
]


class Hashing(ToyEncoder):
    """Counts the items it hashes."""

    hashed = 0

    def key(self, item):
        """As ToyEncoder."""
        self.hashed += 1
        return super().key(item)


def space(names="abc"):
    towers = {n: Hashing(replace(toy_encoder(dim=8).spec, name=f"toy/{n}")) for n in names}
    return Space(towers, dim=8, aligner="linear")


def prepared(model, tasks):
    for task in tasks:
        task.prepare(model)
    return read_columns(tasks)


def test_an_item_is_hashed_once_whatever_number_of_tasks_reads_it(tmp_path):
    model, source = space(), Records(THREE)
    tasks = [Contrast(source, pair) for pair in (("a", "b"), ("a", "c"))] + [Contrast(source, ("a", "b", "c"))]
    columns = prepared(model, tasks)
    assert [len(column) for column in columns] == [12, 12, 24]
    encoders = {name: model[name].encoder for name in model}
    [digest(column, encoders) for column in columns]
    features = frozen_features(model, tasks, columns, FeatureStore(tmp_path), False)
    batch = Batch(columns[2], range(24))
    tasks[2].loss(batch, lambda name, rows, role: features[2][name].take(batch.positions(rows)), model)
    assert [model[name].encoder.hashed for name in "abc"] == [24, 12, 12]
    for index in range(3):
        for name, cached in features[index].items():
            having = columns[index].having(name).nonzero().flatten()
            want = model[name].encoder.encode([columns[index][i][name] for i in having.tolist()])
            torch.testing.assert_close(cached.take(having).values, want.values)
            assert cached.places[~columns[index].having(name)].eq(-1).all()


def test_a_share_of_the_records_fills_a_part_of_the_store(tmp_path):
    from coembed.sharing import Share

    model, store = space("ab"), FeatureStore(tmp_path)
    tasks = [Contrast(Records(THREE[:12]), ("a", "b"))]
    columns = prepared(model, tasks)
    parts = [
        len(frozen_features(model, tasks, columns, store, False, Share(rank, 5))[0]["a"].rows) for rank in range(5)
    ]
    assert parts == [3, 3, 2, 2, 2]


def test_a_batch_reads_as_the_records_that_it_is():
    columns = Columns(THREE)
    batch = Batch(columns, [20, 3, 14, 0])
    assert [record.id for record in batch] == [THREE[i].id for i in (20, 3, 14, 0)]
    assert batch[1].id == THREE[3].id and [r.id for r in batch[1:3]] == [THREE[i].id for i in (3, 14)]
    assert batch.rows("a") == range(4) and batch.rows("b") == [1, 3] and batch.rows("a", "c") == [0, 2]
    assert batch.rows("b", "c") == []
    assert batch.weights([0, 1]).tolist() == [0.5, 1.0] and batch.weights(range(2, 4)).tolist() == [0.5, 1.0]
    assert Batch.of(batch) is batch and len(Batch.of(THREE)) == 24


def test_the_loss_of_a_list_is_that_of_a_batch():
    model = space()
    task = Contrast(Records(THREE), ("a", "b", "c"), same="label")
    prepared(model, [task])
    records = [replace(record, label=record.id[2]) for record in THREE]

    def embed(name, rows, role):
        return model[name](model[name].encoder.collate([some[i][name] for i in rows]))

    losses = []
    for some in (records, Batch(Columns(records), range(24)), Batch(Columns([*THREE, *records]), range(24, 48))):
        losses.append(task.loss(some, embed, model).item())
    assert losses[0] == losses[1] == losses[2]


def test_columns_without_repeats_are_not_searched_for_them(monkeypatch):
    model = space("ab")
    for words, distinct in ((WORDS, True), ([*WORDS[:-1], WORDS[0]], False)):
        source = Records.pairs(a=words, b=WORDS)
        task = Contrast(source, ("a", "b"))
        (columns,) = prepared(model, [task])
        assert not columns.distinct("a"), "nothing is known yet"
        columns.keys("a", model["a"].encoder)
        assert columns.distinct("a") is distinct
        keys = task._same.numbers(columns, torch.arange(12), ("a", "b"))
        assert keys is None if distinct else keys.tolist() == [*range(11), 0]


def by_hand(columns):
    """Union by repeated merging, as the definition says."""
    groups = [{i} for i in range(len(columns[0]))]
    changed = True
    while changed:
        changed = False
        for column in columns:
            for i in range(len(column)):
                for j in range(i):
                    if column[i] == column[j] and groups[i] is not groups[j]:
                        both = groups[i] | groups[j]
                        for k in both:
                            groups[k] = both
                        changed = True
    return [min(group) for group in groups]


@pytest.mark.parametrize("seed", range(6))
def test_links_are_transitive(seed):
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(0, 14, (18,), generator=generator) for _ in range(2)]
    assert linked(columns).tolist() == by_hand([column.tolist() for column in columns])


def test_a_long_chain_is_one_thing_and_different_rows_are_none():
    chain = torch.arange(200)
    assert linked([chain // 2, (chain + 1) // 2]).eq(0).all()
    assert linked([chain, chain.flip(0)]) is None


def test_numbers_are_equal_where_keys_are():
    keys = np.random.default_rng(0).integers(0, 2, (300, 16)).astype(np.uint8)
    keys[:, :14] = 0  # few different ones, some of which share their first half
    numbers = numbered(keys)
    same = (keys[:, None] == keys[None]).all(-1)
    assert torch.equal(numbers[:, None] == numbers[None], torch.from_numpy(same))
    assert numbered(keys[:0]).shape == (0,)


def changed(records, at, **changes):
    return [replace(r, **changes) if i == at else r for i, r in enumerate(records)]


def test_the_digest_tells_any_change():
    encoders = {"a": space()["a"].encoder}
    variants = {
        "same": THREE,
        "order": THREE[::-1],
        "fewer": THREE[:-1],
        "id": changed(THREE, 3, id="other"),
        "group": changed(THREE, 3, group="g"),
        "label": changed(THREE, 3, label="g"),
        "weight": changed(THREE, 3, weight=0.25),
        "frozen item": changed(THREE, 3, items={"a": "x", "b": "CAT"}),
        "item": changed(THREE, 3, items={"a": "cat", "b": "x"}),
        "lacks": changed(THREE, 3, items={"a": "cat"}),
        "tower": changed(THREE, 3, items={"a": "cat", "c": "CAT"}),
    }
    found = {name: digest(Columns(records), encoders) for name, records in variants.items()}
    assert len(set(found.values())) == len(found)
    assert digest(Columns(list(THREE)), encoders) == found["same"]
    private = [Record({"a": object()}, id="1")]
    assert digest(Columns(private), {}) == digest(Columns([Record({"a": object()}, id="1")]), {})


def test_an_aligner_sees_all_features_of_a_small_set_and_a_sample_of_a_large_one(tmp_path):
    model = space("ab")
    rows = FeatureStore(tmp_path).rows(model["a"], WORDS)
    more = FeatureStore(tmp_path).rows(model["a"], [w * 2 for w in WORDS[:6]])
    parts = [Cached(torch.arange(len(r)), r) for r in (rows, more)]
    assert torch.equal(sample(parts).values, Embedding.cat([rows[:], more[:]]).values)
    some = sample(parts, limit=9)
    assert len(some) == 9 and torch.equal(some.values, sample(parts, limit=9).values)
    whole = {tuple(row) for row in torch.cat([rows[:].vectors, more[:].vectors]).tolist()}
    assert {tuple(row) for row in some.vectors.tolist()} < whole


def test_standardize_learns_the_same_from_maps_as_from_memory(tmp_path, monkeypatch):
    found = []
    for limit in (100_000, 7):
        monkeypatch.setattr(frozen.sample, "__defaults__", (limit,))
        tower = coembed.Tower(Hashing(toy_encoder(dim=8).spec), "linear", dim=4, options={"standardize": True})
        model = Space({"a": tower, "b": coembed.Tower(toy_encoder(dim=8, seed=1), "linear", dim=4)})
        coembed.fit(model, Records(THREE[:12]), steps=1, batch_size=4, cache=FeatureStore(tmp_path))
        found.append(model["a"].aligner.mean.clone())
    want = tower.encoder.encode(WORDS).vectors.mean(0)
    torch.testing.assert_close(found[0], want)
    assert not torch.allclose(found[1], want) and torch.allclose(found[1], want, atol=1.0), "a sample is near"


def test_rows_stay_on_their_maps_without_a_gpu(tmp_path):
    rows = FeatureStore(tmp_path).rows(space("ab")["a"], WORDS)
    assert rows.resident(torch.device("cpu")) is rows and isinstance(rows, Rows)
