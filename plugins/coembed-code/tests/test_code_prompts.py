"""Code encoders read an instruction without pooling it."""

from __future__ import annotations

import torch

import coembed
from coembed import EncoderSpec
from coembed_code.hf import HfCode
from coembed_code.tiny import write_roberta

ITEMS = ["def f(x):\n    return x", "x = 1"]
PROMPT = "Find the same: "


def test_from_scratch():
    plain = coembed.load("code/transformer", dim=16, layers=1, heads=2).eval()
    asked = coembed.load("code/transformer", dim=16, layers=1, heads=2, pool_prompt=False).eval()
    for item, vector in zip(ITEMS, asked.encode(ITEMS, prompt=PROMPT).vectors, strict=True):
        tokens = plain(plain.collate([item], PROMPT)).values[0, 1 + len(PROMPT) :]
        assert torch.allclose(vector, tokens.mean(0), atol=1e-6)


def test_a_checkpoint_and_its_mode(tmp_path):
    write_roberta(tmp_path, dim=32, more=["<encoder-only>"])
    spec = EncoderSpec(name="code/hf", modality="code", dim=None, target="coembed_code.hf:HfCode")
    encoder = HfCode(spec, model=str(tmp_path), mode="<encoder-only>", pool_prompt=False).eval()
    batch = encoder.collate(ITEMS, PROMPT)
    hidden = (batch["attention_mask"] - batch["keep"]).sum(1)
    assert hidden.tolist() == [3 + len(PROMPT)] * 2  # <s> <encoder-only> </s> and the prompt, a token a byte
    assert batch["keep"].sum(1).tolist() == [len(item) + 1 for item in ITEMS]  # and the last </s>
    assert not torch.equal(encoder.encode(ITEMS, prompt=PROMPT).values, encoder.encode(ITEMS, prompt="Find: ").values)
