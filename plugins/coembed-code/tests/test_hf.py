"""Checkpoints that read code: parity with upstream's classes, UniXcoder's mode, CodeT5+'s projection, refusals."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from transformers import RobertaModel, RobertaTokenizer, T5Config, T5EncoderModel

import coembed_code
from coembed.spec import WEIGHTS, EncoderSpec
from coembed_code.codet5p import CodeT5p
from coembed_code.hf import HfCode
from coembed_code.samples import SAMPLES
from coembed_code.tiny import write_codet5p, write_roberta
from coembed_text.packaged import CheckpointError

SPECS = {spec.name: spec for spec in coembed_code.coembed_encoders()}
MODE = "<encoder-only>"


def spec_of(name: str, dim: int | None) -> EncoderSpec:
    kind = type(SPECS[name])
    return kind(name=name, modality="code", dim=dim, target=SPECS[name].target)


def reference(folder, ids: list[int], how: str) -> torch.Tensor:
    """Upstream's class over one unpadded row: its first token, or the mean over all."""
    with torch.inference_mode():
        states = RobertaModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0]
    return states[0] if how == "cls" else states.mean(0)


@pytest.mark.parametrize(
    ("how", "mode", "size"),
    [
        ("cls", None, {"dim": 64, "layers": 2}),  # CodeBERT, GraphCodeBERT
        ("mean", MODE, {"dim": 64, "layers": 2}),  # UniXcoder
        pytest.param("cls", None, {"dim": 768, "layers": 12}, marks=pytest.mark.slow),
    ],
)
def test_vectors_are_those_of_upstreams_class(tmp_path, how, mode, size):
    write_roberta(tmp_path, **size, more=[MODE])
    encoder = HfCode(spec_of("code/hf", None), model=str(tmp_path), pooling=how, mode=mode)
    tokenizer = RobertaTokenizer.from_pretrained(tmp_path)
    start = [tokenizer.cls_token_id, *([tokenizer.convert_tokens_to_ids(MODE), tokenizer.sep_token_id] if mode else [])]
    texts = [*SAMPLES, "", "x = '" + "漢字 \\n" * 100 + "'"]
    with pytest.warns(match="longer than max_length"):
        vectors = encoder.encode(texts, batch_size=3).vectors
    for text, vector in zip(texts, vectors, strict=True):
        tokens = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))[: 512 - len(start) - 1]
        wanted = reference(tmp_path, [*start, *tokens, tokenizer.sep_token_id], how)
        assert torch.allclose(vector, wanted, atol=1e-5)


def test_the_mode_changes_vectors_and_survives_saving(tmp_path):
    write_roberta(tmp_path, more=[MODE])
    make = {"model": str(tmp_path)}
    plain = HfCode(spec_of("code/hf", None), **make)
    moded = HfCode(spec_of("code/hf", None), **make, mode=MODE)
    before = moded.encode(SAMPLES)
    assert not torch.allclose(plain.encode(SAMPLES).vectors, before.vectors, atol=1e-3)
    moded.save(tmp_path / "saved")
    plain.restore(tmp_path / "saved")
    assert torch.equal(plain.encode(SAMPLES).vectors, before.vectors)


def test_the_modes_text_in_an_item_is_plain_text(tmp_path):
    write_roberta(tmp_path, more=[MODE])
    encoder = HfCode(spec_of("code/hf", None), model=str(tmp_path), mode=MODE)
    row = encoder.collate([f"x {MODE}"])["input_ids"][0].tolist()
    assert row.count(encoder.tokenizer.token_to_id(MODE)) == 1


def test_a_mode_that_the_vocabulary_lacks_is_refused(tmp_path):
    write_roberta(tmp_path)
    with pytest.raises(CheckpointError, match=r"<encoder-only>.*no such token"):
        HfCode(spec_of("code/hf", None), model=str(tmp_path), mode=MODE)


@pytest.mark.parametrize("both_halves", [True, False])
def test_codet5p_is_upstreams_encoder_and_projection(tmp_path, both_halves):
    """Upstream: unit length of the projected first token. Its own class is code that we never run."""
    write_codet5p(tmp_path, embed_dim=32)
    config = json.loads((tmp_path / "config.json").read_text()) | {"is_encoder_decoder": both_halves}
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = CodeT5p(spec_of("code/codet5p", 32), model=str(tmp_path))
    facts = json.loads((tmp_path / "config.json").read_text())
    body = T5EncoderModel(
        T5Config(**{k: v for k, v in facts.items() if k not in ("model_type", "architectures")})
    ).eval()
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "model.safetensors")
    missing, unexpected = body.load_state_dict(weights, strict=False)
    assert set(unexpected) == {"proj.weight", "proj.bias"} and not set(missing) - {"encoder.embed_tokens.weight"}
    body.encoder.embed_tokens.weight.data.copy_(body.shared.weight)
    tokenizer = RobertaTokenizer.from_pretrained(tmp_path)
    vectors = encoder.encode(SAMPLES, batch_size=4).vectors
    for text, vector in zip(SAMPLES, vectors, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        assert ids[0, 0] == tokenizer.bos_token_id
        with torch.inference_mode():
            first = body(ids).last_hidden_state[:, 0]
        wanted = F.normalize(F.linear(first, weights["proj.weight"], weights["proj.bias"]), dim=-1)[0]
        assert torch.allclose(vector, wanted, atol=1e-5)
    assert (encoder.dim, encoder.token_dim, encoder.layers) == (32, 64, 2)


def test_codet5p_survives_saving_and_trains_its_projection(tmp_path):
    encoder = CodeT5p.tiny(spec_of("code/codet5p", 32))
    before = encoder.encode(SAMPLES)
    encoder.save(tmp_path)
    other = CodeT5p.tiny(spec_of("code/codet5p", 32))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    assert not torch.allclose(other.encode(SAMPLES).vectors, before.vectors, atol=1e-3)
    other.restore(tmp_path)
    assert torch.equal(other.encode(SAMPLES).vectors, before.vectors)
    other.train()
    vectors = other.pooling(other(other.collate(SAMPLES[:2]))).vectors
    vectors[:, 0].sum().backward()
    assert other.pooling[1].linear.weight.grad.abs().sum() > 0


def test_codet5p_without_a_projection_is_refused(tmp_path):
    write_codet5p(tmp_path, embed_dim=32)
    from coembed.weights import read, write

    weights = read(tmp_path / "model.safetensors")
    write(tmp_path / "model.safetensors", {k: v for k, v in weights.items() if not k.startswith("proj")})
    with pytest.raises(CheckpointError, match="no weights of a projection"):
        CodeT5p(spec_of("code/codet5p", 32), model=str(tmp_path))
    write(tmp_path / "model.safetensors", weights | {"proj.weight": torch.zeros(31, 64)})
    with pytest.raises(CheckpointError, match="projection does not fit"):
        CodeT5p(spec_of("code/codet5p", 32), model=str(tmp_path))


@pytest.mark.parametrize("write", [write_roberta, write_codet5p])
def test_pickled_weights_are_refused(tmp_path, write):
    """Most code models were published before safetensors: the message must say what to do, not just fail."""
    write(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    kind, name = (CodeT5p, "code/codet5p") if write is write_codet5p else (HfCode, "code/hf")
    with pytest.raises(CheckpointError, match="safetensors"):
        kind(spec_of(name, None), model=str(tmp_path))


@pytest.mark.parametrize("write", [write_roberta, write_codet5p])
def test_pickled_weights_load_after_the_readmes_conversion(tmp_path, write):
    from safetensors.torch import load_file, save_file

    write(tmp_path)
    kind, name = (CodeT5p, "code/codet5p") if write is write_codet5p else (HfCode, "code/hf")
    before = kind(spec_of(name, None), model=str(tmp_path)).encode(SAMPLES)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    tensors = torch.load(tmp_path / "pytorch_model.bin", weights_only=True, map_location="cpu")
    save_file({key: value.clone() for key, value in tensors.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(kind(spec_of(name, None), model=str(tmp_path)).encode(SAMPLES).vectors, before.vectors)


def test_an_early_exit_differs_and_the_last_equals_all(tmp_path):
    for encoder in (HfCode.tiny(SPECS["code/hf"]), CodeT5p.tiny(SPECS["code/codet5p"])):
        whole = encoder.encode(SAMPLES).vectors
        assert torch.equal(encoder.encode(SAMPLES, layer=2).vectors, whole)
        assert not torch.allclose(encoder.encode(SAMPLES, layer=1).vectors, whole, atol=1e-3)
        assert len(encoder.blocks()) == 2


def test_named_checkpoints_are_pinned():
    named = [spec for name, spec in SPECS.items() if name not in ("code/hf", "code/transformer")]
    assert {spec.name for spec in named} == {"code/codebert", "code/graphcodebert", "code/unixcoder", "code/codet5p"}
    assert all(WEIGHTS.fullmatch(spec.weights) and spec.license for spec in named)
    with pytest.raises(CheckpointError, match="no checkpoint named"):
        HfCode(SPECS["code/hf"])
    with pytest.raises(CheckpointError, match="not pinned"):
        HfCode(SPECS["code/hf"], model="some/model")
