"""heads/shared: one module in training, equal copies on disk, tied again when loaded."""

from __future__ import annotations

import pytest
import torch

import coembed
from coembed import Space, Tower
from coembed.testing import toy_encoder

PAIRS = coembed.Records.pairs(a=[f"a{i}" for i in range(8)], b=[f"b{i}" for i in range(8)])


def space(**options):
    towers = {"a": toy_encoder(dim=8), "b": toy_encoder(dim=6, seed=1)}
    return Space({name: Tower(e, "heads/shared", dim=4, options=options) for name, e in towers.items()})


def test_both_towers_train_one_set_of_parameters():
    made = space(layers=2, hidden=5)
    common = made["a"].aligner.common
    assert common is made["b"].aligner.common
    before = [p.clone() for p in common.parameters()]
    coembed.fit(made, PAIRS, steps=3, batch_size=8, lr=1e-2)
    assert common is made["a"].aligner.common is made["b"].aligner.common
    assert not any(torch.equal(p, old) for p, old in zip(common.parameters(), before, strict=True))
    own = [id(p) for name in "ab" for p in made[name].aligner.entry.parameters()]
    assert len(set(own)) == 2


def test_a_gradient_is_the_sum_of_the_towers():
    made = space()
    rows = {name: made[name].features(made[name].encoder.collate(["x", "yy"])) for name in "ab"}
    weight = made["a"].aligner.common[-1].weight

    def gradient(*names):
        weight.grad = None
        sum(made[name].align(rows[name]).values[..., 0].sum() for name in names).backward()
        return weight.grad.clone()

    assert torch.allclose(gradient("a", "b"), gradient("a") + gradient("b"), atol=1e-6)


def test_a_loaded_space_is_equal_and_tied_again(tmp_path):
    made = space()
    coembed.fit(made, PAIRS, steps=3, batch_size=8, lr=1e-2)
    made.save(tmp_path / "space")
    heads = {n: coembed.load("heads/shared", in_dim=made[n].encoder.dim, out_dim=4) for n in "ab"}
    again = Space.load(tmp_path / "space", towers={n: Tower(made[n].encoder, heads[n]) for n in "ab"})
    assert again["a"].aligner.common is again["b"].aligner.common
    for name in "ab":
        assert torch.equal(again.encode(name, ["x", "y"]).values, made.encode(name, ["x", "y"]).values)


def test_groups_and_spaces_do_not_mix():
    made, other = space(group="one"), space(group="one")
    assert made["a"].aligner.common is not other["a"].aligner.common
    lone = Tower(toy_encoder(dim=8, seed=3), "heads/shared", dim=4, options={"group": "two"})
    assert made.add("c", lone).aligner.common is not made["a"].aligner.common
    with pytest.raises(ValueError, match="group 'one' differ"):
        made.add("d", Tower(toy_encoder(dim=8), "heads/shared", dim=4, options={"group": "one", "layers": 2}))


def test_a_locked_tower_may_not_share_with_one_that_trains():
    made = space()
    made.lock("a")
    with pytest.raises(ValueError, match="share weights of their heads, but one is locked"):
        coembed.fit(made, PAIRS, steps=1, batch_size=8)
