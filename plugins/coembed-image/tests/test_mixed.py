"""image/mixed: a picture, a text or both, in one causal sequence whose last token has seen all of it."""

from __future__ import annotations

import pytest
import torch

from coembed import EncoderSpec
from coembed.items import BadItem
from coembed_image.mixed import Mixed
from coembed_image.pictures import samples

SPEC = EncoderSpec(name="image/mixed", modality="image", dim=16, target="coembed_image.mixed:Mixed")
DISC, BARS, *_ = samples()


@pytest.fixture(scope="module")
def encoder() -> Mixed:
    return Mixed.tiny(SPEC).double().eval()


def test_every_part_counts_and_their_order_of_reading(encoder):
    """The vector hangs on picture, instruction and text, and on nothing of its neighbours."""
    items = [{"image": DISC, "text": "which?"}, {"image": BARS, "text": "which?"}, {"image": DISC, "text": "where?"}]
    vectors = encoder.encode([*items, {"image": DISC}, {"text": "which?"}]).vectors
    assert torch.pdist(vectors).min() > 1e-3
    asked = encoder.encode(items[:1], prompt="Answer: ").vectors
    assert (asked - vectors[0]).abs().max() > 1e-3
    assert torch.allclose(asked, encoder.encode([{"image": DISC, "text": "Answer: which?"}]).vectors)
    alone = torch.cat([encoder.encode([item]).vectors for item in items])
    assert torch.allclose(alone, vectors[:3], atol=1e-9)


def test_a_text_reads_the_same_beside_pictures(encoder):
    """Places for patches that an item lacks are masked, whatever the batch holds."""
    long = {"image": BARS, "text": "a much longer text than the other one"}
    together, alone = encoder.encode([{"text": "a"}, long]).vectors[0], encoder.encode([{"text": "a"}]).vectors[0]
    assert torch.allclose(together, alone, atol=1e-9)


def test_patches_must_fill_a_picture():
    with pytest.raises(ValueError, match="image/mixed: patches of 8 pixels do not fill a side of 30"):
        Mixed(SPEC, size=30)


def test_earlier_tokens_do_not_see_later_ones(encoder):
    one, other = ({"image": DISC, "text": text} for text in ("abcX", "abcY"))
    with torch.inference_mode():
        states = encoder(encoder.collate([one, other])).values
    same = encoder.side**2 + 4  # patches, [CLS], a, b, c
    assert torch.equal(states[0, :same], states[1, :same]) and not torch.equal(states[0, same], states[1, same])


@pytest.mark.parametrize("item", [DISC, "a text", {}, {"picture": DISC}, {"image": None}, {"text": 3}, None])
def test_what_is_no_item_is_named(encoder, item):
    with pytest.raises(BadItem, match=r"item 1: got .*, expected a mapping with a picture, a text or both"):
        encoder.encode([{"text": "fine"}, item])


def test_a_long_text_is_cut_and_said(encoder):
    made = Mixed.tiny(SPEC)
    with pytest.warns(UserWarning, match="2 texts of this batch are longer than 256 bytes"):
        vectors = made.encode([{"text": "x" * 300}, {"text": "x" * 400}]).vectors
    assert torch.equal(vectors[0], vectors[1])
