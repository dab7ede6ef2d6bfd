"""`text/static`: the files of three libraries, the mean, and texts without a known token."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import coembed
from coembed import BadItem, CoembedWarning, EncoderSpec
from coembed_text.static import StaticText
from coembed_text.tiny import byte_tokenizer, write_layout, write_table

SPEC = EncoderSpec(name="text/static", modality="text", dim=None, target="coembed_text.static:StaticText")
STATIC = "sentence_transformers.models.StaticEmbedding"
NORMALIZE = ("1_Normalize", "sentence_transformers.models.Normalize", {})


def rows(count=261, dim=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def ids(text):
    return byte_tokenizer(special=False).encode(text).ids


def test_wordllama_gives_the_vectors_of_its_own_package(docstrings, offline):
    wordllama = pytest.importorskip("wordllama")
    # as a cache, its own folder gives it the vocabulary that it ships but looks for under another name
    model = wordllama.WordLlama.load(disable_download=True, cache_dir=Path(wordllama.__file__).parent)
    encoder = coembed.load("text/wordllama")
    texts = [*docstrings[:200], "Größe 東京 👍", "a"]
    assert np.abs(encoder.encode(texts).vectors.numpy() - model.embed(texts)).max() < 1e-5
    assert encoder.dim == 256 and encoder.source.startswith("package:wordllama==")
    cut = encoder.encode(texts[:3], dim=64).vectors
    reference = model.embed(texts[:3])[:, :64]
    assert np.abs(cut.numpy() - reference / np.linalg.norm(reference, axis=1, keepdims=True)).max() < 1e-5


def test_model2vec_with_mapping_and_weights(tmp_path):
    table, weights = rows(100), np.linspace(0.1, 2, 261).astype(np.float32)
    mapping = (np.arange(261) % 100).astype(np.int64)
    save_file({"embeddings": table.astype(np.float16), "mapping": mapping, "weights": weights},
              tmp_path / "model.safetensors")  # fmt: skip
    byte_tokenizer(special=False).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    write_layout(tmp_path, [(".", STATIC, {}), NORMALIZE])
    encoder = StaticText(SPEC, model=str(tmp_path))
    assert encoder.normalize and encoder.max_length == 512
    tokens = ids("a cat sat")
    mean = (table.astype(np.float16).astype(np.float32)[mapping[tokens]] * weights[tokens, None]).mean(0)
    assert np.allclose(encoder.encode(["a cat sat"]).vectors[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_model2vec_leaves_unknown_tokens_out_and_cuts(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "red": 1, "cat": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    table = rows(3)
    save_file({"embeddings": table}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"max_length": 3}))
    encoder = StaticText(SPEC, model=str(tmp_path))
    x = encoder.encode(["red unheard cat", "red cat", "unheard of", ""])
    assert np.allclose(x.vectors[0], table[1:].mean(0), atol=1e-6) and torch.equal(x.vectors[0], x.vectors[1])
    assert not encoder.encode(["unheard", ""]).vectors.any()  # also where a whole batch has no token
    assert not x.vectors[2:].any() and x.present.all()  # nothing known: the zero vector, not a missing row
    with pytest.warns(CoembedWarning, match="1 of 2 texts are longer than max_length=3"):
        cut = encoder.encode(["red unheard red cat cat", "cat"])
    assert np.allclose(cut.vectors[0], table[1], atol=1e-6)


@pytest.mark.parametrize("steps", [[], [NORMALIZE]])
@pytest.mark.parametrize("path", [".", "0_StaticEmbedding"])
def test_static_embedding_equals_sentence_transformers(tmp_path, path, steps):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    (tmp_path / path).mkdir(exist_ok=True)
    write_table(tmp_path / path, dim=16)
    write_layout(tmp_path, [(path, STATIC, {}), *steps])
    texts = ["hello world", "a", "Größe 東京 👍"]
    model = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    expected = model.encode(texts, convert_to_tensor=True).cpu()
    assert StaticText(SPEC, model=str(tmp_path)).encode(texts).vectors.sub(expected).abs().max() < 1e-6


@pytest.mark.external
def test_model2vec_equals_model2vec(tmp_path):
    model2vec = pytest.importorskip("model2vec")
    model = model2vec.StaticModel(rows(), byte_tokenizer(special=False), normalize=True, max_length=64)
    model.save_pretrained(tmp_path)
    texts = ["hello world", "a", "Größe 東京 👍", "", "two cats"]
    expected = model.encode(texts)
    assert np.abs(StaticText(SPEC, model=str(tmp_path)).encode(texts).vectors.numpy() - expected).max() < 1e-6


def test_saved_and_opened_without_the_files(tmp_path):
    write_table(tmp_path, dim=16)
    encoder = StaticText(SPEC, model=str(tmp_path), normalize=True, max_length=40, prompts={"query": "q: "})
    encoder.save(tmp_path / "saved")
    again = StaticText.open(SPEC, tmp_path / "saved")
    assert again.fingerprint() == encoder.fingerprint() and again.dim == 16
    texts = ["a cat", "", "two dogs"]
    assert torch.equal(again.encode(texts, role="query").values, encoder.encode(texts, role="query").values)
    assert StaticText(SPEC, model=str(tmp_path)).fingerprint() != encoder.fingerprint()


def test_bad_items_batches_and_training(tmp_path):
    encoder = StaticText.tiny(SPEC)
    with pytest.raises(BadItem, match="item 1: got int 3, expected a string"):
        encoder.encode(["a", 3])
    alone = torch.cat([encoder.encode([text]).vectors for text in encoder.samples()])
    assert encoder.encode(encoder.samples(), batch_size=3).vectors.sub(alone).abs().max() < 1e-6
    encoder.pooled(encoder(encoder.collate(["ab", ""]))).vectors.sum().backward()
    assert encoder.table.weight.grad.any(1).sum() == 2  # the rows of a and b
    with pytest.raises(ValueError, match="no early exits"):
        encoder.encode(["a"], layer=1)


def test_files_that_do_not_fit_are_named(tmp_path, folder):
    with pytest.raises(ValueError, match=r"one model.safetensors is expected, found 0"):
        StaticText(SPEC, model=str(tmp_path))
    save_file({"other": rows()}, tmp_path / "model.safetensors")
    byte_tokenizer(special=False).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"no 'embeddings' or 'embedding.weight' among other"):
        StaticText(SPEC, model=str(tmp_path))
    save_file({"embeddings": rows(100)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"table of shape \(100, 8\) for a vocabulary of 261"):
        StaticText(SPEC, model=str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is not a tokenizer.json"):
        StaticText(SPEC, model=str(tmp_path))
    pooling = ("1_Pooling", "sentence_transformers.models.Pooling", {"pooling_mode": "mean"})
    write_layout(folder, [("", "sentence_transformers.models.Transformer", {}), pooling])
    with pytest.raises(ValueError, match="use text/hf"):
        StaticText(SPEC, model=str(folder))
