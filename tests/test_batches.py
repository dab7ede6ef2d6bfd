"""Ways to make batches: mixed, homogeneous, and walks between neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import coembed
from coembed import Contrast, Mined, Record, Records, Space, Tower
from coembed.testing import toy_encoder
from coembed.training.batches import Homogeneous, Mixed, given
from coembed.training.columns import Columns
from coembed.training.locality import Locality, walk
from coembed.training.sampler import Schedule

SIZE = 240


def neighbours(size=SIZE, k=40):
    """Points on a plane: their nearest others, and the points."""
    points = torch.randn(size, 2, generator=torch.Generator().manual_seed(0))
    order = torch.cdist(points, points).fill_diagonal_(9e9).argsort(dim=1)[:, :k]
    return points, order


def locality(order, **settings):
    ids = {str(i): tuple(str(j) for j in row) for i, row in enumerate(order.tolist())}
    way = Locality(Mined("a", "b", ids), **settings)
    way.between("a", "b")
    way.attach(Columns([Record({"a": i, "b": i}, id=str(i)) for i in range(len(order))]))
    return way


def epochs(way, size=SIZE, batch_size=16, count=3, seed=0):
    """The batches of some epochs and their hard negatives, through the schedule of a run."""
    per = way.count(size, batch_size)
    schedule = Schedule([size], [1.0], batch_size=batch_size, steps=count * per, seed=seed, ways=[way])
    rows = [(schedule.batch(step)[1], schedule.hard(step)) for step in range(count * per)]
    return [rows[i * per : (i + 1) * per] for i in range(count)]


@pytest.mark.parametrize("mode", ["walk", "snow"])
def test_walks_see_each_record_once_an_epoch_and_neighbours_together(mode):
    points, order = neighbours()
    near = epochs(locality(order, draw=(0, 8), push=(4, 16), mode=mode))
    random = epochs(Mixed())

    def spread(batches):
        return sum(float(torch.pdist(points[rows]).mean()) for rows, _ in batches) / len(batches)

    for walked, mixed in zip(near, random, strict=True):
        seen = [i for rows, _ in walked for i in rows]
        assert sorted(seen) == list(range(SIZE))
        assert spread(walked) < 0.8 * spread(mixed), "neighbours in one batch are nearer than any records are"
    assert near[0] != near[1], "each epoch walks anew"


@pytest.mark.parametrize("mode", ["walk", "snow"])
def test_a_walk_goes_on_over_the_negative_that_was_drawn(mode):
    _, order = neighbours()
    table = order.numpy()
    visited, drawn = walk(table, (0, 8), (4, 16), mode, np.random.default_rng(0))
    reached = set()
    restarts = 0
    for record in visited.tolist():
        assert drawn[record] in table[record, :8]
        restarts += record not in reached
        reached |= set((table[:, 4:16] == drawn[record]).any(1).nonzero()[0].tolist())
    assert restarts < SIZE / 10, "a restart at every step would be random batches"


def test_a_walk_is_a_function_of_the_seed():
    _, order = neighbours()
    way = locality(order, draw=(0, 8), push=(4, 16))
    one, two, other = (epochs(way, seed=seed) for seed in (0, 0, 1))
    assert str(one) == str(two) != str(other)


def test_records_without_neighbours_are_walked_too():
    table = np.full((5, 3), -1)
    order, drawn = walk(table, (0, 2), (1, 3), "snow", np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(5)) and (drawn == -1).all()


def test_no_match_stands_unmasked_in_a_run_of_walks():
    """A relevant target is masked in every batch: with one class the loss has no negatives at all."""
    words = [f"w{i}" for i in range(24)]
    source = Records.pairs(a=words, b=[w.upper() for w in words], labels=["one"] * 24)
    model = Space({n: Tower(toy_encoder(dim=8, seed=i), "linear", dim=8, train="all") for i, n in enumerate("ab")})
    batches = {"locality": {"given": {"k": 8, "ratio": None, "same": "id"}, "draw": [0, 4], "push": [2, 8]}}
    losses = coembed.fit(
        model, tasks=[Contrast(source, "ab", same="label", batches=batches)], steps=3, batch_size=6
    ).losses
    assert losses == [0.0, 0.0, 0.0]
    model = Space({n: Tower(toy_encoder(dim=8, seed=i), "linear", dim=8, train="all") for i, n in enumerate("ab")})
    assert min(coembed.fit(model, tasks=[Contrast(source, "ab", batches=batches)], steps=3, batch_size=6).losses) > 0


@pytest.mark.parametrize("by", ["label", "group", "language"])
def test_homogeneous_batches_are_of_one_kind(by):
    kinds = [str(i % 7) if i < 200 else f"alone {i}" for i in range(SIZE)]
    records = [
        Record({"a": i}, id=str(i), **({"extra": {by: kind}} if by == "language" else {by: kind}))
        for i, kind in enumerate(kinds)
    ]
    way = Homogeneous(by)
    way.attach(Columns(records))
    for batches in epochs(way, batch_size=12):
        seen = [i for rows, _ in batches for i in rows]
        assert len(set(seen)) == len(seen) > 0.8 * SIZE
        for rows, _ in batches:
            assert len(rows) == 12
            assert len({kinds[i] if i < 200 else "alone" for i in rows}) == 1
    (large, *_), *_ = epochs(way, batch_size=100)
    assert len(large[0]) in (28, 29, 40), "a kind that is smaller than the batch gives all it has"


def test_kinds_that_are_all_different_are_said():
    with pytest.raises(ValueError, match="all 9 records differ"):
        Homogeneous("label").attach(Columns([Record({"a": i}, id=str(i), label=str(i)) for i in range(9)]))


def test_mixed_batches_are_those_of_before():
    order = np.random.Generator(np.random.Philox(key=coembed.nn.seeding.counter(3, "order", 0, 0))).permutation(50)
    assert Schedule([50], [1.0], batch_size=8, steps=6, seed=3).batch(2)[1] == order[16:24].tolist()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("sorted", "use mixed, homogeneous, locality"),
        ({"homogeneous": {"of": "label"}}, "takes no argument 'of'"),
        ({"homogeneous": 3}, "arguments by name"),
        ({"locality": {"mode": "run"}}, "locality mode 'run'"),
        ({"locality": {"draw": [3, 1]}}, r"locality draw \[3, 1\]"),
        ({"one": 1, "two": 2}, "give one of"),
    ],
)
def test_what_can_not_be_is_said(written, message):
    with pytest.raises((ValueError, TypeError), match=message):
        given(written)


def test_points_are_spread():
    """The graph that the other tests walk over has the right to be called local."""
    points, order = neighbours()
    near = (points[order[:, :8]] - points[:, None]).norm(dim=2).mean()
    assert near < 0.5 * F.pdist(points).mean()
