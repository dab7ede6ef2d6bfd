"""`dna/transformer`: tokenisers, both strands, windows."""

from __future__ import annotations

import random

import pytest
import torch

import coembed
from coembed.nn.pooling import POOLINGS
from coembed_dna.sequence import SAMPLES, clean, reverse_complement


def build(tokenizer="characters", **kwargs):
    encoder = coembed.load("dna/transformer", **{"dim": 32, "layers": 2, "tokenizer": tokenizer} | kwargs).eval()
    if not encoder.fitted:
        encoder.fit_tokenizer(["ATGGCGTACGTTAGCCTAGGCTAA" * 4, *SAMPLES])
    return encoder


def draw(length: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=length))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("tokenizer", ["characters", "kmers:3", "bpe:40"])
def test_both_strands_have_one_vector(tokenizer, pooling):
    encoder = build(tokenizer, reverse_complement="average", pooling=pooling, max_length=32)
    texts = [draw(7), draw(61, 1), draw(200, 2), "ACGTNNNNNACG"]
    x = encoder.encode(texts).vectors
    y = encoder.encode([reverse_complement(text) for text in texts]).vectors
    assert (x - y).abs().max() < 1e-6 and (x[0] - x[1]).abs().max() > 1e-3
    alone = build(tokenizer, pooling=pooling, max_length=32)
    both = [alone.encode([clean(t) for t in part]).vectors for part in (texts, map(reverse_complement, texts))]
    assert torch.allclose(x, (both[0] + both[1]) / 2, atol=1e-5)  # the mean of what each strand gives by itself
    assert not torch.allclose(both[0], both[1], atol=1e-3)


@pytest.mark.parametrize(("tokenizer", "step"), [("characters", 1), ("kmers:4", 4)])
def test_windows_are_a_mean_by_length(tokenizer, step):
    encoder = build(tokenizer, max_length=12)
    text = draw(step * 25)  # 25 tokens, 10 a window: 9 + 8 + 8
    parts = [text[: 9 * step], text[9 * step : 17 * step], text[17 * step :]]
    vectors = encoder.encode(parts).vectors
    weights = torch.tensor([11.0, 10.0, 10.0])  # with [CLS] and [SEP]
    expected = (vectors * weights[:, None]).sum(0) / weights.sum()
    assert torch.allclose(encoder.encode([text]).vectors[0], expected, atol=1e-5)
    assert encoder.overlong([text, "ACGT"]) == 1


def test_a_short_one_is_plain_beside_a_long_one():
    encoder = build(max_length=32)
    short, long = draw(30, 1), draw(300, 2)
    alone = encoder.encode([short]).vectors[0]
    assert encoder.collate([short])["ids"].ndim == 2
    mixed = encoder.pooled(encoder(encoder.collate([long, short]))).vectors
    assert torch.allclose(mixed[1], alone, atol=1e-6)
    assert torch.allclose(build(max_length=512).encode([long]).vectors, build(max_length=512).encode([long]).vectors)
    states = encoder.hidden_states(encoder.collate([long, short]))
    assert len(states) == 3 and torch.allclose(states[-1].values, encoder(encoder.collate([long, short])).values)
    exit1 = encoder(encoder.collate([long, short]), layer=1)
    assert torch.allclose(states[1].values, exit1.values, atol=1e-6)


def test_nothing_is_cut_off():
    encoder = build(max_length=16)
    text = draw(100)
    changed = text[:-1] + ("A" if text[-1] != "A" else "C")
    assert not torch.allclose(encoder.encode([text]).vectors, encoder.encode([changed]).vectors, atol=1e-5)
    mask = encoder(encoder.collate([text])).mask
    assert mask.sum() == 100 + 2 * 8  # ceil(100 / 14) windows, each with [CLS] and [SEP]


def test_unknown_bases_are_one_token_each():
    for kind in ("characters", "kmers:3", "bpe:40"):
        tokenizer = build(kind).tokenizer
        assert tokenizer.ids("ACGNNNACG").count(tokenizer.unk) == 3


def test_bpe_is_trained_on_upper_case():
    texts = ["atggcgtacgttagcctaggctaa" * 4, "GGGCCCAAATTTUUU"]
    one, other = build("bpe:60", seed=0), coembed.load("dna/transformer", dim=32, layers=2, tokenizer="bpe:60")
    other.fit_tokenizer(texts)
    again = coembed.load("dna/transformer", dim=32, layers=2, tokenizer="bpe:60")
    again.fit_tokenizer([text.upper().replace("U", "T") for text in texts])
    assert other.tokenizer.backend.to_str() == again.tokenizer.backend.to_str()
    assert one.tokenizer.vocab_size > 9 and len(other.tokenizer.ids("ATGGCGTACG")) < 12


def test_gradients_flow_through_windows_of_both_strands():
    encoder = build(max_length=16, reverse_complement="average").train()
    encoder.pooled(encoder(encoder.collate([draw(50), draw(5)]))).vectors.pow(2).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_arguments_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="reverse_complement='sum' is unknown: use 'average' or 'none'"):
        build(reverse_complement="sum")
    with pytest.raises(ValueError, match="max_length=2 leaves no room"):
        build(max_length=2)
    (tmp_path / "a.fa").write_text(">x\nACGT\n")
    assert build().read(tmp_path / "a.fa") == ["ACGT"]
