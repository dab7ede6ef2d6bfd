"""Mined negatives: the hardest that are no positives, by any index, without a matrix of all pairs."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn import functional as F

import coembed
from coembed import CoembedWarning, Mined, Miner, Record, Records, Space, mine
from coembed.encoder import Encoder
from coembed.index import Exact
from coembed.spec import EncoderSpec
from coembed.testing import toy_encoder

TORCH = torch.Generator().manual_seed(0)
SIZE, DIM = 60, 6
QUERIES = F.normalize(torch.randn(SIZE, DIM, generator=TORCH), dim=1)
TARGETS = F.normalize(QUERIES + 0.8 * torch.randn(SIZE, DIM, generator=TORCH), dim=1)


class Given(Encoder):
    """Items are numbers of rows of a table of vectors."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__(EncoderSpec(name="given", target="x:Y", modality="number", dim=table.shape[1]))
        self.register_buffer("vectors", table)

    def collate(self, items, prompt=""):
        return {"at": torch.tensor(items)}

    def forward(self, batch, layer=None):
        return coembed.Embedding.from_vectors(self.vectors[batch["at"]])

    def size(self, item):
        return 1

    @classmethod
    def tiny(cls, spec):
        return cls(torch.eye(4))

    @classmethod
    def samples(cls):
        return [0, 1]


def space(targets=TARGETS):
    return Space({"a": Given(QUERIES), "b": Given(targets)})


def records(**changes):
    """Record i has query i and target i; `changes` give a field of each."""
    columns = {name: values for name, values in changes.items()}
    rows = range(len(columns.get("b", range(SIZE))))
    b = columns.pop("b", range(SIZE))
    return Records(
        Record(
            {"a": i, "b": int(b[i])} if i < SIZE else {"b": int(b[i])},
            id=f"r{i}",
            **{k: v[i] for k, v in columns.items()},
        )
        for i in rows
    )


def mined(source=None, targets=TARGETS, **settings):
    found = mine(space(targets), source or records(), "a", "b", Miner(**{"ratio": None, **settings}))
    return {int(name[1:]): [int(n[1:]) for n in names] for name, names in found.ids.items()}


def ranked(scores, i, keep):
    return [j for j in scores[i].argsort(descending=True).tolist() if keep(i, j)]


@pytest.mark.parametrize("skip", [0, 3])
def test_without_a_threshold_they_are_the_nearest_others(skip):
    scores = QUERIES @ TARGETS.T
    for i, found in mined(k=5, skip=skip).items():
        assert found == ranked(scores, i, lambda i, j: i != j)[skip : skip + 5]


@pytest.mark.parametrize("ratio", [0.95, 0.5])
def test_ratio_keeps_what_scores_less_than_that_share_of_the_partner(ratio):
    scores = QUERIES @ TARGETS.T
    own = scores.diagonal()

    def keep(i, j):
        return i != j and scores[i, j] < (ratio * own[i] if own[i] > 0 else own[i] - (1 - ratio) * abs(own[i]))

    assert (own < 0).any(), "a factor would turn round there"
    found = mined(k=5, ratio=ratio)
    for i, names in found.items():
        assert names == ranked(scores, i, keep)[:5]


def test_margin_is_absolute():
    scores = QUERIES @ TARGETS.T
    with pytest.warns(CoembedWarning, match="hard negatives"):
        found = mined(k=SIZE, margin=0.4)
    for i, names in found.items():
        assert names == ranked(scores, i, lambda i, j: i != j and scores[i, j] <= scores[i, i] - 0.4)


@pytest.mark.parametrize("same", ["label", "group"])
def test_what_is_the_same_thing_is_never_a_negative(same):
    kinds = [str(i % 3) for i in range(SIZE)]
    found = mined(records(**{same: kinds}), k=5, same=same, depth=None)
    for i, names in found.items():
        assert len(names) == 5 and all(kinds[j] != kinds[i] for j in names)
    assert any(kinds[j] == kinds[i] for i, names in mined(records(**{same: kinds}), k=5).items() for j in names)


def test_the_search_goes_deeper_where_the_nearest_are_all_false():
    together = torch.cat([QUERIES[:1]] * 50 + [QUERIES[1:11]])  # the first fifty targets are one point, and one label
    labels = ["x"] * 50 + [str(i) for i in range(10)]
    found = mine(
        space(F.normalize(together + 1e-3 * torch.arange(SIZE)[:, None], dim=1)),
        records(label=labels), "a", "b", Miner(k=3, ratio=None, same="label")
    )  # fmt: skip
    assert all(len(names) == 3 for names in found.ids.values())
    assert all(int(name[1:]) >= 50 for name in found.ids["r0"])


def test_overlapping_intervals_are_no_negatives():
    extra = [{"contig": "one" if i % 2 else "two", "start": i, "end": i + 4} for i in range(SIZE)]
    extra[7] = {}
    found = mined(records(extra=extra), k=8, interval=("contig", "start", "end"))
    for i, names in found.items():
        for j in names:
            assert i == 7 or j == 7 or (i - j) % 2 or abs(i - j) >= 4
    assert any(i != 7 and j != 7 and not (i - j) % 2 and abs(i - j) < 4 for i, js in mined(k=8).items() for j in js)


def test_near_duplicates_of_the_partner_are_planted_and_found_by_thresholds():
    """The strong effect: the naive nearest are planted near-duplicates, both filters drop nearly all of them."""
    noise = torch.randn(SIZE, DIM, generator=torch.Generator().manual_seed(1))
    targets = F.normalize(QUERIES + 0.15 * noise.flip(0), dim=1)
    table = torch.cat([targets, F.normalize(targets + 0.02 * noise, dim=1)])
    source = records(b=range(2 * SIZE))

    def planted(**settings):
        found = mined(source, table, k=5, **settings)
        return sum(i + SIZE in names for i, names in found.items())

    assert planted() > 0.6 * SIZE
    assert planted(near=0.98) == 0
    assert planted(ratio=0.9) < 0.1 * SIZE


def test_equal_contents_are_one_candidate_and_never_negatives():
    texts = ["cat", "dog", "cat", "cow", "emu", "fox", "gnu", "hen", "dog"]
    model = Space({"a": toy_encoder(dim=16), "b": toy_encoder(dim=16, seed=1)})
    source = Records.pairs(a=[f"q{i}" for i in range(8)] + ["q3"], b=texts)
    found = mine(model, source, "a", "b", Miner(k=4, ratio=None))
    for name, names in found.ids.items():
        seen = [texts[int(n)] for n in names]
        assert len(set(seen)) == len(seen) == 4 and texts[int(name)] not in seen
    # Records 1, 3 and 8 are linked: 1 and 8 by their target, 3 and 8 by their query.
    assert {"cow", "dog"}.isdisjoint(texts[int(n)] for n in (*found.ids["1"], *found.ids["3"], *found.ids["8"]))


def test_records_with_a_target_alone_are_candidates():
    near = torch.cat([TARGETS, QUERIES])
    found = mined(records(b=range(2 * SIZE)), near, k=1)
    assert set(found) == set(range(SIZE)), "nobody asks for them"
    assert all(names == [i + SIZE] for i, names in found.items())


def test_any_index_may_look_and_scores_are_exact_all_the_same():
    class Rough(Exact):
        """Finds the right ones and tells the wrong order."""

        def search(self, q, k=10, where=None):
            return [list(reversed(hits)) for hits in super().search(q, k, where)]

    assert mined(k=5, index=Rough) == mined(k=5)
    full = Exact()
    full.add(["x"], coembed.Embedding.from_vectors(torch.ones(1, DIM)))
    with pytest.raises(ValueError, match="holds 1 rows"):
        mined(k=1, index=lambda: full)


def test_multi_vectors_are_mined_by_maxsim():
    towers = {
        n: coembed.Tower(toy_encoder(dim=8, seed=i), "linear", dim=8, pool="none", seed=i) for i, n in enumerate("ab")
    }
    model, words = Space(towers), ["red cat", "blue dog", "old tree", "big sun", "x y z", "sea"]
    found = mine(model, Records.pairs(a=words, b=words[::-1]), "a", "b", Miner(k=2, ratio=None))
    scores = coembed.similarity(model.encode("a", words), model.encode("b", words[::-1]))
    for i in range(6):
        best = [str(j) for j in scores[i].argsort(descending=True).tolist() if j != i][:2]
        assert list(found.ids[str(i)]) == best


def test_saved_and_read_again(tmp_path):
    found = mine(space(), records(), "a", "b", Miner(k=3, ratio=None, draw=2))
    found.save(tmp_path / "mined.json")
    assert Mined.load(tmp_path / "mined.json") == found
    facts = json.loads((tmp_path / "mined.json").read_text())["facts"]
    assert facts["k"] == 3 and facts["records"] == SIZE and facts["short"] == 0 and facts["index"] == "exact"
    assert found.describe() != Mined("a", "b", {**found.ids, "r0": ("r5",)}, 2).describe()
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match=r"other\.json: no mined negatives"):
        Mined.load(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k of a miner is 0"),
        ({"ratio": 1.5}, "ratio 1.5"),
        ({"same": "colour"}, "same='colour'"),
        ({"interval": "contig"}, "three keys of extra"),
        ({"draw": 0}, "draw of a miner"),
    ],
)
def test_settings_that_can_not_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Miner(**settings)


def test_nothing_to_mine_for():
    with pytest.raises(ValueError, match="no record has both a and b"):
        mine(space(), Records([Record({"a": 1}, id="1"), Record({"b": 2}, id="2")]), "a", "b")
    with pytest.raises(KeyError, match="no tower 'c'"):
        mine(space(), records(), "a", "c")
    with pytest.raises(ValueError, match="no record's extra has the interval"):
        mined(interval=("contig", "start", "end"))
