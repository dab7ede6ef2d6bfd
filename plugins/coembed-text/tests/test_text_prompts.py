"""text/hf with `pool_prompt=False`: the prompt is read, the text's own tokens are pooled, told by offsets."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer

from coembed import CoembedWarning

TEXTS = ["a cat", "öde Größe", "", "a much longer text about two dogs"]
PROMPT = "Instruct: find it\nQuery: "


def test_only_the_texts_own_tokens_are_pooled(folder, load):
    plain, asked = load(folder).eval(), load(folder, pool_prompt=False).eval()
    vectors = asked.encode(TEXTS, prompt=PROMPT).vectors
    for text, vector in zip(TEXTS, vectors, strict=True):
        tokens = plain(plain.collate([text], PROMPT))
        start = 1 + len(PROMPT)  # one token a byte: [CLS] and the prompt
        assert torch.allclose(vector, tokens.values[0, start:].mean(0), atol=1e-5)
    padded = asked.pooling(asked(asked.collate(TEXTS, PROMPT))).vectors
    assert torch.allclose(vectors, padded, atol=1e-5)
    assert (vectors - asked.encode(TEXTS, prompt="Query: ").vectors).abs().amax(1).min() > 1e-4
    assert torch.equal(plain.encode(TEXTS).values, asked.encode(TEXTS).values)


def test_a_merge_across_the_seam_belongs_to_the_text(folder, load):
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text("utf-8"))
    data["model"]["vocab"] |= {"nh": 261 - 1}  # the last byte's row, which ASCII never uses
    data["model"]["merges"] = [["n", "h"]]
    data["model"]["vocab"] = {t: i for t, i in data["model"]["vocab"].items() if i != 260 or t == "nh"}
    path.write_text(json.dumps(data), "utf-8")
    encoder = load(folder, pool_prompt=False)
    assert encoder.tokenizer.encode("unhappy").tokens[1:4] == ["u", "nh", "a"]
    keep = encoder.collate(["happy"], "un")["keep"]
    assert keep.tolist() == [[0, 0, 1, 1, 1, 1, 1, 1]]  # [CLS] u | nh a p p y [SEP]


def test_a_prompt_that_leaves_no_room_is_refused(folder, load):
    encoder = load(folder, max_length=20, pool_prompt=False)
    with pytest.warns(CoembedWarning, match="cut"), pytest.raises(ValueError, match="fills max_length=20"):
        encoder.collate(["a cat"], PROMPT)
    keep = encoder.collate(["a long text, which is cut"], "ask: ")["keep"]
    assert keep.sum().item() == 20 - 1 - len("ask: ")


def test_the_option_overrides_the_layout_and_survives_saving(make_layout, load, tmp_path):
    config = {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": False}
    path = make_layout(("1_Pooling", "sentence_transformers.models.Pooling", config))
    assert "keep" not in load(path, pool_prompt=True).collate(["x"], PROMPT)
    encoder = load(path)
    encoder.save(tmp_path / "saved")
    again = type(encoder).open(encoder.spec, tmp_path / "saved")
    assert torch.equal(again.encode(TEXTS, prompt=PROMPT).values, encoder.encode(TEXTS, prompt=PROMPT).values)


def test_special_tokens_behind_the_text_stay(folder, load):
    encoder = load(folder, pool_prompt=False)
    assert isinstance(encoder.tokenizer, Tokenizer)
    batch = encoder.collate(["cat"], "ask: ")
    assert batch["keep"][0, -1] == 1 and batch["input_ids"][0, -1] == encoder.tokenizer.token_to_id("[SEP]")
