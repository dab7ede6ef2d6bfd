"""Prompts that are read but not pooled: which tokens are the item's, and that nothing else moves the vector."""

from __future__ import annotations

import pytest
import torch

import coembed
from coembed.embedding import Embedding
from coembed.nn import TransformerEncoder
from coembed.nn.prompt import prompt_length
from coembed.spec import EncoderSpec

ITEMS = ["a cat", "", "two dogs and a very long tail", "öde Größe"]


class Text(TransformerEncoder):
    @classmethod
    def samples(cls):
        return ITEMS


def build(**options):
    spec = EncoderSpec(name="demo/text", modality="text", dim=16, target="demo:Text", prompts={"query": "find: "})
    return Text(spec, layers=2, heads=2, dropout=0.0, **options).eval()


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_only_the_items_tokens_are_pooled_though_all_are_read(positions):
    plain, asked = build(positions=positions), build(positions=positions, pool_prompt=False)
    vectors = asked.encode(ITEMS, role="query").vectors
    for item, vector in zip(ITEMS, vectors, strict=True):
        tokens = plain(plain.collate([item], "find: "))
        own = tokens.values[0, 1 + len("find: ") :]  # bytes: [CLS], the prompt's six, the item's, [SEP]
        assert torch.allclose(vector, own.mean(0), atol=1e-6)
    other = asked.encode(ITEMS, prompt="seek: ").vectors
    assert (vectors - other).abs().amax(1).min() > 1e-3  # it is attended to


def test_without_a_prompt_or_the_option_nothing_changes():
    plain, asked = build(), build(pool_prompt=False)
    assert torch.equal(plain.encode(ITEMS).values, asked.encode(ITEMS).values)
    assert set(asked.collate(ITEMS)) == set(plain.collate(ITEMS, "find: ")) == {"ids", "mask"}


def test_a_batch_and_a_packed_row_equal_one_by_one():
    encoder = build(pool_prompt=False)
    whole = encoder.encode(ITEMS, role="query").values
    alone = torch.cat([encoder.encode([item], role="query").values for item in ITEMS])
    padded = encoder.pooling(encoder(encoder.collate(ITEMS, "find: "))).values
    assert torch.allclose(whole, alone, atol=1e-6) and torch.allclose(whole, padded, atol=1e-6)


def test_what_hidden_tokens_hold_after_the_encoder_does_not_matter():
    encoder = build(pool_prompt=False)
    tokens = encoder(encoder.collate(ITEMS, "find: "))
    wild = Embedding(tokens.values.masked_fill(~tokens.mask[..., None], torch.nan), tokens.mask)
    assert torch.equal(encoder.pooling(wild).values, encoder.pooling(tokens).values)


def test_a_token_across_the_seam_is_the_items():
    encoder = build(tokenizer="bpe:290", pool_prompt=False)
    encoder.fit_tokenizer(["unhappy unhappy unhappy"] * 8)
    merged = encoder.tokenizer.backend.encode("unhappy")
    bare = encoder.tokenizer.backend.encode("un")
    assert len(merged) == 1 and len(bare) >= 1  # counting the bare prompt's tokens would hide the whole item
    assert prompt_length(merged, len("un")) == 0
    batch = encoder.collate(["happy"], "un")
    assert batch["pooled"].tolist() == [[False, True, True]]


def test_a_cut_item_keeps_its_prompt_out_and_a_prompt_that_fills_the_row_is_refused():
    encoder = build(max_length=12, pool_prompt=False)
    with pytest.warns(coembed.CoembedWarning, match="cut"):
        batch = encoder.collate(["x" * 50, "y"], "find: ")
    assert batch["pooled"].sum(1).tolist() == [12 - 1 - 6, 2]
    with pytest.raises(ValueError, match="fills max_length=12"):
        encoder.collate(["x"], "a prompt of many words")
    assert encoder.collate([""], "find: ")["pooled"].sum() == 1  # [SEP] stands for an empty item


def test_a_saved_space_keeps_the_option(tmp_path):
    space = coembed.Space({"text": coembed.load("text/transformer", dim=16, layers=1, pool_prompt=False)})
    space.save(tmp_path / "space")
    again = coembed.Space.load(tmp_path / "space")
    assert again["text"].encoder.pool_prompt is False
    one, two = (s.encode("text", ITEMS, prompt="find: ").values for s in (space, again))
    assert torch.equal(one, two)
