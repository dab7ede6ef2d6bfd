"""`text/static`: the files of three libraries, the mean, and texts without a known token."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import coembed
from coembed import BadItem, CoembedWarning, EncoderSpec
from coembed.nn.pooling import POOLINGS
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
    encoder.pooled(encoder(encoder.collate(["ab", ""]))).vectors.sum().backward()
    assert encoder.table.weight.grad.any(1).sum() == 2  # the rows of a and b
    with pytest.raises(ValueError, match="no early exits"):
        encoder.encode(["a"], layer=1)


def many():
    """Texts of very unlike lengths, two of them without a token, and one twice."""
    texts = [f"text {n} " + "word " * (n * n % 97) for n in range(80)]
    return [*texts, "", " ".join(map(str, range(900))), "", texts[3]]


@pytest.mark.parametrize("normalize", [False, True])
def test_bits_do_not_depend_on_the_batch(normalize, tmp_path):
    write_table(tmp_path, dim=48)
    encoder = StaticText(SPEC, model=str(tmp_path), normalize=normalize)
    texts = many()
    tower = coembed.Tower(encoder, "linear", dim=16)
    for part in (encoder, tower):
        alone = torch.cat([part.encode([text]).vectors for text in texts])
        for size in (1, 2, 3, 7, 16, 17, 32, 256):
            assert torch.equal(part.encode(texts, batch_size=size).vectors, alone)
        backwards = part.encode(texts[::-1], batch_size=5).vectors.flip(0)
        assert torch.equal(backwards, alone)


def test_the_mean_is_that_of_the_rows_and_padding_is_never_looked_up(monkeypatch):
    encoder = StaticText.tiny(SPEC)
    texts = many()
    table = encoder.table.weight.detach().double()
    wanted = [table[ids(text)].mean(0) if ids(text) else torch.zeros(table.shape[1]).double() for text in texts]
    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.functional, "embedding", lambda *given: pytest.fail("tokens were laid out"))
        found = encoder.encode(texts).vectors
    assert found.double().sub(torch.stack(wanted)).abs().max() < 2e-6  # 3,500 tokens, added in single precision
    with torch.no_grad():
        encoder.table.weight[0] = torch.nan  # what padding points to
    fine = [text for text in texts if 0 not in ids(text)]
    assert encoder.encode(fine).vectors.isfinite().all()


@pytest.mark.parametrize("pool", ["none", "first", "last", "mean"])
def test_whoever_asks_for_tokens_gets_their_rows(pool):
    encoder = StaticText.tiny(SPEC)
    tower = coembed.Tower(encoder, "identity", pool=pool)
    x = tower.encode(["abc", "", "zz"])
    table = encoder.table.weight.detach()
    rows = torch.nn.functional.normalize(table[ids("abc")], dim=-1)
    if pool == "none":
        assert x.mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
        assert torch.allclose(x.values[0], rows, atol=1e-6) and not x.values[1].any()
    else:
        mean = torch.nn.functional.normalize(table[ids("abc")].mean(0), dim=-1)
        assert torch.allclose(x.vectors[0], {"first": rows[0], "last": rows[-1], "mean": mean}[pool], atol=1e-6)


def test_token_features_are_an_embedding_in_every_respect():
    encoder = StaticText.tiny(SPEC).requires_grad_(False)
    batch = encoder.collate(["abc", "", "zz"])
    lazy = encoder(batch)
    plain = coembed.Embedding(lazy.values, lazy.mask, lazy.sizes)
    for how in ("mean", "first", "last"):
        assert torch.allclose(lazy.pool(how).vectors, plain.pool(how).vectors, atol=1e-6)
    lazy = encoder(batch)
    assert (len(lazy), lazy.dim, lazy.single, lazy.present.tolist()) == (3, 64, False, [True] * 3)
    same = [(lambda x: x[[2, 0]]), (lambda x: x[1:]), (lambda x: x.pad(7)), (lambda x: x.normalize())]
    same += [(lambda x: x.to(torch.float64)), (lambda x: x.truncate(8, force=True))]
    same += [(lambda x: coembed.Embedding.cat([x, x[:1]])), copy.deepcopy]
    same += [POOLINGS[name](64) for name in POOLINGS if name != "mean"]
    same += [lambda x: dataclasses.replace(x, layers=(1,)), lambda x: pickle.loads(pickle.dumps(x))]
    for change in same:
        one, other = change(encoder(batch)), change(plain)
        assert torch.equal(one.values, other.values) and torch.equal(one.mask, other.mask)


def test_training_through_the_mean_gives_the_gradient_of_the_rows():
    encoder = StaticText.tiny(SPEC)
    batch, weight = encoder.collate(["abca", "", "zz"]), encoder.table.weight
    upon = torch.randn(3, 64)
    tokens = encoder(batch)
    plain = coembed.Embedding(tokens.values, tokens.mask)
    (wanted,) = torch.autograd.grad((plain.pool().vectors * upon).sum(), weight)
    (found,) = torch.autograd.grad((encoder.pooled(encoder(batch)).vectors * upon).sum(), weight)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_a_table_of_half_precision_is_summed_in_full():
    encoder = StaticText.tiny(SPEC)
    full = encoder.encode(["abc " * 200, ""]).vectors
    half = encoder.to(torch.bfloat16).encode(["abc " * 200, ""]).vectors
    assert half.dtype == torch.float32 and (half - full).abs().max() < 1e-2 * full.abs().max()


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
