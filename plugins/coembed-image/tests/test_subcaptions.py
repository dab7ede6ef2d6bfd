"""Sentences of captions, their draws, and the objective that groups patches by sentence."""

from __future__ import annotations

import pytest
import torch

import coembed
from coembed import Space, Tower
from coembed.embedding import Embedding
from coembed.objectives import InfoNCE
from coembed.sources import Records
from coembed.tasks import Contrast
from coembed_image.grouping import Grouping, patch_weights
from coembed_image.sentences import sentences
from coembed_image.subcaptions import Subcaptions


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("A cat. It sleeps.", ["A cat.", "It sleeps."]),
        ("It weighs 3.5 kg. Yes!", ["It weighs 3.5 kg.", "Yes!"]),
        ("Fruit, e.g. an apple, i.e. food. Dr. Who sits by J. Smith.", None),
        ("One\nTwo. Three", ["One", "Two.", "Three"]),
        ('He says "No." Then he goes... far away.', ['He says "No."', "Then he goes... far away."]),
        ("See fig. 3 and no. 4. No. Yes.", ["See fig. 3 and no. 4.", "No.", "Yes."]),
        ("version 2.0 of a.b.c is here? Perhaps.", ["version 2.0 of a.b.c is here?", "Perhaps."]),
        ("赤い心。青い空。", ["赤い心。", "青い空。"]),
        (" . ... \n\n", []),
        ("", []),
    ],
)
def test_sentences(text, parts):
    wanted = ["Fruit, e.g. an apple, i.e. food.", "Dr. Who sits by J. Smith."] if parts is None else parts
    assert sentences(text) == wanted


CAPTIONS = Records.pairs(image=[0, 1], text=["A one. B two. C three. D four.", "Only one."], groups=["g", "h"])


def test_the_whole_caption_comes_first_and_every_sentence_can_be_drawn():
    records = list(Subcaptions(CAPTIONS, k=2, draws=40))
    assert [record["text"] for record in records[::6]] == [CAPTIONS[0]["text"]] * 40
    drawn = {record["text"] for record in records if record["image"] == 0} - {CAPTIONS[0]["text"]}
    assert drawn == {"A one.", "B two.", "C three.", "D four."}  # the last one too
    for start in range(0, len(records), 6):
        first, second = records[start + 1]["text"], records[start + 2]["text"]
        assert first != second  # without replacement
    assert {r["text"] for r in records if r["image"] == 1} == {"Only one."}  # with it, where there are too few
    assert len({r.id for r in records}) == len(records)
    assert {(r["image"], r.label, r.group) for r in records} == {(0, "0", "g"), (1, "1", "h")}


def test_draws_follow_the_seed_and_the_epoch_and_nothing_else():
    def drawn(source=CAPTIONS, **options):
        return [r["text"] for r in Subcaptions(source, k=3, **options) if r["image"] == 0]

    assert drawn() == drawn() and drawn() != drawn(seed=1)
    two = drawn(draws=2)
    assert two[:4] == drawn() and two[4:] != two[:4]
    alone = Records([CAPTIONS[0]])
    assert drawn(alone) == drawn()  # other records change nothing
    assert len(drawn(whole=False)) == 3
    with pytest.raises(ValueError, match="k=0"):
        Subcaptions(CAPTIONS, k=0)
    with pytest.raises(ValueError, match="'0' has no caption"):
        list(Subcaptions(Records.pairs(image=[0], text=["..."])))


def unit(*shape, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Embedding(values, torch.ones(shape[:2], dtype=torch.bool)).normalize()


def test_weights_sum_to_one_and_a_higher_threshold_is_sparser():
    patches, texts = unit(6, 9, 5), unit(6, 1, 5, seed=1)
    counts = []
    for threshold in (0.0, 0.2, 0.5, 0.9, 1.0):
        weights = patch_weights(patches, texts, threshold)
        assert torch.allclose(weights.sum(1), torch.ones(6, dtype=torch.float64)) and (weights >= 0).all()
        counts.append(int((weights > 0).sum()))
    assert counts == sorted(counts, reverse=True) and counts[-1] == 6 < counts[0]
    default = patch_weights(patches, texts)
    assert torch.equal(default, patch_weights(patches, texts, 1 / 9))
    best = torch.einsum("bpd,bd->bp", patches.values, texts.vectors).argmax(1)
    assert torch.equal(default.argmax(1), best)


def test_equal_patches_one_patch_and_padding_give_no_nan():
    same = Embedding(unit(3, 1, 5).values.expand(3, 4, 5).clone().requires_grad_(), torch.ones(3, 4, dtype=torch.bool))
    texts = unit(3, 1, 5, seed=1)
    assert torch.equal(patch_weights(same, texts), torch.full((3, 4), 0.25, dtype=torch.float64))
    loss = Grouping().double()(same, texts)
    loss.backward()
    assert loss.isfinite() and same.values.grad.isfinite().all()
    single = unit(3, 1, 5, seed=2)
    assert torch.equal(patch_weights(single, texts), torch.ones(3, 1, dtype=torch.float64))
    patches = unit(3, 4, 5, seed=3)
    padded = patches.pad(7)
    wild = Embedding(padded.values.masked_fill(~padded.mask[..., None], torch.nan), padded.mask)
    objective = Grouping().double()
    assert torch.allclose(patch_weights(wild, texts)[:, :4], patch_weights(patches, texts))
    assert torch.allclose(objective(wild, texts), objective(patches, texts))


def test_each_part_is_infonce_of_what_it_says():
    patches, texts = unit(6, 9, 5), unit(6, 1, 5, seed=1)
    keys = torch.tensor([0, 0, 1, 1, 2, 3])
    infonce = InfoNCE().double()
    objective = Grouping(whole=0.0).double()
    assert torch.allclose(objective(patches, texts), infonce(objective.grouped(patches, texts), texts))
    far = Grouping(local=0.0).double()
    assert torch.allclose(far(patches, texts, keys=keys), infonce(patches.pool("mean").normalize(), texts, keys=keys))
    both = Grouping(local=0.5, whole=2.0).double()
    assert torch.allclose(both(patches, texts), 0.5 * objective(patches, texts) + 2 * far(patches, texts))


def test_siblings_are_negatives_only_where_asked():
    patches, texts = unit(6, 9, 5), unit(6, 1, 5, seed=1)
    keys = torch.tensor([0, 0, 1, 1, 2, 2])
    for siblings in (False, True):
        objective = Grouping(whole=0.0, siblings=siblings).double()
        leaf = texts.values.clone().requires_grad_()
        near = objective.rows
        rows = near(_pairs(patches, Embedding(leaf, texts.mask), keys))
        rows[0].backward()
        moved = leaf.grad.abs().sum((1, 2)) > 0
        assert moved.tolist() == [True, siblings, True, True, True, True]


def _pairs(a, b, keys):
    from coembed.objectives import Pairs

    return Pairs.of(a, b, keys=keys)


def test_row_b_t_belongs_to_image_b():
    """Rows of a batch of several sentences a picture: each positive is the row's own picture."""
    seen = []

    class Spy(Grouping):
        def rows(self, pairs):
            seen.append(pairs)
            return super().rows(pairs)

    records = Records.pairs(image=[0, 1, 2], text=[f"Red {i}. Blue {i}. Green {i}." for i in range(3)])
    source = Subcaptions(records, k=2)
    task = Contrast(source, ("image", "text"), Spy(), same="label")
    vectors = unit(3, 4, 5)

    def embed(tower, rows, role):
        chosen = [list(source)[row] for row in rows]
        if tower == "image":
            return vectors[[record["image"] for record in chosen]]
        return unit(len(chosen), 1, 5, seed=9)

    space = Space({"image": coembed.load("image/vit", size=16, patch=8, dim=8, layers=1, heads=1),
                   "text": coembed.load("text/transformer", dim=8, layers=1, heads=1)})  # fmt: skip
    task.prepare(space)
    task.double().loss(list(source), embed, space)
    (pairs,) = seen
    image = [record["image"] for record in source]
    assert image == [0] * 3 + [1] * 3 + [2] * 3
    assert torch.equal(pairs.a.values, vectors.values[image])
    assert [image[key] for key in pairs.keys.tolist()] == image


def test_it_trains_patch_tokens_of_a_tower(tmp_path):
    pictures = [torch.rand(16, 16, 3, generator=torch.Generator().manual_seed(i)).numpy() for i in range(6)]
    source = Subcaptions(Records.pairs(image=pictures, text=[f"One {i}. Two {i}." for i in range(6)]), k=1)
    image = coembed.load("image/vit", size=16, patch=4, dim=16, layers=1, heads=2, dropout=0.0)
    text = coembed.load("text/transformer", dim=16, layers=1, heads=2, dropout=0.0)
    space = Space({"image": Tower(image, "linear", pool="none", dim=8, train="all"),
                   "text": Tower(text, "linear", dim=8, train="all")})  # fmt: skip
    task = Contrast(source, ("image", "text"), "image/grouping", same="label")
    losses = coembed.fit(space, tasks=[task], steps=10, batch_size=12, lr=3e-3).losses
    assert losses[-1] < losses[0]
    assert space.encode("image", pictures[:2]).values.shape == (2, 16, 8)


def test_arguments_are_checked():
    for options, why in (({"threshold": 2.0}, "threshold=2.0"), ({"local": 0.0, "whole": 0.0}, "not both 0")):
        with pytest.raises(ValueError, match=why):
            Grouping(**options)
    with pytest.raises(ValueError, match="one vector each"):
        Grouping()(unit(3, 4, 5), unit(3, 2, 5))
