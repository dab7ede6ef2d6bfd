"""heads/cloze: one mask a row whatever an item holds or how long it is; the states are the inner encoder's."""

from __future__ import annotations

import pytest
import torch

import coembed
from coembed import EncoderSpec, Space, Tower
from coembed_heads.cloze import Cloze
from coembed_text.hf import HfText

pytestmark = pytest.mark.filterwarnings("ignore::coembed.CoembedWarning")  # long items are cut: that is the test

HF = EncoderSpec(name="text/hf", modality="text", dim=None, target="coembed_text.hf:HfText")
ITEMS = ["a cat", "", "[MASK] and <mask> are words", "x" * 200, "東京の天気"]


def inner(kind, **options):
    if kind == "hf":
        return HfText.tiny(HF).eval()
    return coembed.load("text/transformer", dim=16, layers=3, heads=2, max_length=64, **options).eval()


def cloze(encoder, **options):
    return coembed.load("heads/cloze", encoder=encoder, **options).eval()


@pytest.mark.parametrize("kind", ["shelf", "hf"])
def test_one_mask_a_row_and_the_template_is_never_cut(kind):
    own = inner(kind)
    encoder = cloze(own, template="Say: {x} It is {mask}, yes.")
    words = encoder.vocabulary
    batch = encoder.collate(ITEMS)
    ids = batch.get("ids", batch.get("input_ids"))
    mask = batch.get("mask", batch.get("attention_mask")).bool()
    assert ((ids == words.mask) & mask).sum(1).tolist() == [1] * len(ITEMS)
    tail = [words.mask, *words.text(", yes."), *words.after]
    head = [*words.before, *words.text("Say: ")]
    for row, real, place in zip(ids.tolist(), mask.sum(1).tolist(), batch["place"].tolist(), strict=True):
        assert row[:real][-len(tail) :] == tail and row[: len(head)] == head and row[place] == words.mask
    if kind == "shelf":
        assert mask.sum(1).tolist()[3] == 64  # as much of the long item as there is room


@pytest.mark.parametrize("kind", ["shelf", "hf"])
def test_states_are_those_of_the_inner_encoder_at_the_mask(kind):
    own = inner(kind)
    encoder = cloze(own)
    batch = encoder.collate(ITEMS)
    states = encoder(batch)
    assert states.values.shape[1] == own.layers and states.mask.all()
    plain = {name: tensor for name, tensor in batch.items() if name != "place"}
    for layer in range(1, own.layers + 1):
        tokens = own(plain, layer=layer).values
        wanted = torch.stack([row[place] for row, place in zip(tokens, batch["place"], strict=True)])
        assert torch.allclose(states.values[:, layer - 1], wanted, atol=1e-5)
    last = cloze(own, layers="last")
    assert torch.allclose(last(batch).values[:, 0], states.values[:, -1], atol=1e-5)
    assert torch.equal(cloze(own, layers=[1])(batch).values[:, 0], states.values[:, 0])
    alone = torch.cat([encoder.encode([item]).values for item in ITEMS])
    assert torch.allclose(encoder.encode(ITEMS).values, alone, atol=1e-5)
    assert torch.allclose(encoder.encode(ITEMS).vectors, states.values[:, -1], atol=1e-5)


def test_a_literal_mask_in_an_item_does_not_count():
    encoder = cloze(inner("hf"))
    one, two = (encoder.encode([text]).values for text in ("say [MASK]", "say"))
    assert not torch.equal(one, two)
    assert encoder.collate(["[MASK]" * 5])["place"].shape == (1,)


def test_what_cannot_be_is_refused():
    for template in ("{x}", "{mask}", "{x} {x} {mask}", "{x} {mask} {mask}"):
        with pytest.raises(ValueError, match="once each"):
            cloze(inner("shelf"), template=template)
    with pytest.raises(ValueError, match="fills the encoder's max_length=64"):
        cloze(inner("shelf"), template="{x}" + " word" * 20 + "{mask}")
    for layers in ("first", [0], [4], [2, 1], []):
        with pytest.raises(ValueError, match="from 1 to 3"):
            cloze(inner("shelf"), layers=layers)
    with pytest.raises(ValueError, match="has no mask token"):
        coembed.load("heads/cloze", encoder="text/tfidf", layers="last")
    with pytest.raises(ValueError, match="built already"):
        coembed.load("heads/cloze", encoder=inner("shelf"), options={"dim": 8})
    with pytest.raises(coembed.BadItem, match="item 1"):
        cloze(inner("hf")).encode(["a", 3])


@pytest.mark.parametrize("kind", ["shelf", "hf"])
def test_a_tower_trains_saves_and_loads(kind, tmp_path):
    own = inner(kind) if kind == "hf" else inner(kind, tokenizer="bpe:300")
    if kind == "shelf":
        own.fit_tokenizer(["call one", "call two"] * 4)
    tower = Tower(cloze(own), "heads/prompt-mask", dim=8, train="all")
    other = Tower(coembed.load("text/transformer", dim=16, layers=1, heads=2), "linear", dim=8)
    space = Space({"code": tower, "text": other})
    pairs = coembed.Records.pairs(code=[f"f{i}(x)" for i in range(8)], text=[f"call {i}" for i in range(8)])
    losses = coembed.fit(space, pairs, steps=8, lr=3e-3, batch_size=8).losses
    assert losses[-1] < losses[0]
    assert all(p.grad is None or p.grad.isfinite().all() for p in tower.parameters())
    space.save(tmp_path / "space")
    again = Space.load(tmp_path / "space")
    assert type(again["code"].encoder) is Cloze
    assert torch.equal(again.encode("code", ITEMS).values, space.encode("code", ITEMS).values)
    assert tower.encoder.spec.modality == "text" and len(tower.encoder.blocks()) == own.layers


def test_it_says_once_that_items_are_cut():
    encoder = cloze(inner("hf"), template="{x}" + " word" * 20 + "{mask}")
    with pytest.warns(coembed.CoembedWarning, match="1 of 2 items in this batch are longer"):
        encoder.collate(["x" * 600, "y"])
