"""What a checkpoint may ask for, and what is refused: code is never imported, weights are never pickles."""

from __future__ import annotations

import json
import sys

import pytest
import torch

POOLING = "sentence_transformers.models.Pooling"
MEAN = ("1_Pooling", POOLING, {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True})


@pytest.mark.parametrize(
    "kind",
    [
        "evil_module.Payload",
        "sentence_transformers.models.LSTM",
        "sentence_transformers.models.Pooling.evil",
        "custom_st.Transformer",
        "os.system",
        "",
    ],
)
def test_an_unknown_module_is_named_and_never_imported(make_layout, load, tmp_path, monkeypatch, kind):
    path = make_layout(MEAN, ("2_Extra", kind, {}))
    (path / "evil_module.py").write_text("raise SystemExit('the checkpoint ran code')")
    monkeypatch.syspath_prepend(str(path))
    with pytest.raises(ValueError, match="no code of a checkpoint is ever run") as caught:
        load(path)
    assert repr(kind) in str(caught.value)
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize("where", ["../outside", "/etc", "a/../../b", "C:\\x"])
def test_a_module_path_stays_inside_the_folder(make_layout, load, where):
    path = make_layout(MEAN)
    modules = json.loads((path / "modules.json").read_text())
    modules[1]["path"] = where
    (path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="leads out of the checkpoint"):
        load(path)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([("1_Pooling", POOLING, {"pooling_mode": "median"})], "pooling mode 'median' is unknown"),
        ([], "a Pooling must follow"),
        ([MEAN, ("2_Pooling", POOLING, {})], "a Pooling can't come after"),
        (
            [MEAN, ("2_Dense", "sentence_transformers.models.Dense", {"in_features": 9, "out_features": 4})],
            "takes vectors of width 9, but pooling gives 32",
        ),
        (
            [
                MEAN,
                (
                    "2_Dense",
                    "sentence_transformers.models.Dense",
                    {"in_features": 32, "out_features": 4, "activation_function": "os.system"},
                ),
            ],
            "activation 'os.system' is unknown",
        ),
        (
            [MEAN, ("2_Dense", "sentence_transformers.models.Dense", {"in_features": 32, "out_features": 4})],
            "no such weights file",
        ),
        (
            [
                MEAN,
                ("2_Normalize", "sentence_transformers.models.Normalize", {"module_input_name": "token_embeddings"}),
            ],
            "module_input_name = 'token_embeddings' is not supported",
        ),
    ],
)
def test_what_is_not_understood_is_named(make_layout, load, modules, message):
    with pytest.raises(ValueError, match=message):
        load(make_layout(*modules))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "this is a SparseEncoder"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "default_prompt_name 'x' is none"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task = 'fill-mask'"),
        ("sentence_bert_config.json", {"query_length": 32}, "query_length = 32"),
        ("config.json", {"model_type": "newarch"}, "model_type 'newarch' is not one of transformers' own"),
        ("config.json", {"model_type": "newarch", "auto_map": {"AutoModel": "modeling.Evil"}}, "never run"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tok.Evil", None]}}, "no code of a checkpoint"),
    ],
)
def test_settings_that_would_change_the_vectors_are_refused(make_layout, load, file, change, message):
    path = make_layout(MEAN)
    old = json.loads((path / file).read_text()) if (path / file).is_file() else {}
    (path / file).write_text(json.dumps(old | change))
    for name in ("modeling.py", "tok.py"):
        (path / name).write_text("raise SystemExit('the checkpoint ran code')")
    with pytest.raises(ValueError, match=message):
        load(path)


def test_damaged_json_names_the_file(make_layout, load):
    path = make_layout(MEAN)
    (path / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"1_Pooling/config.json can't be read as JSON"):
        load(path)


def test_only_safetensors_are_read(folder, load):
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no .safetensors file"):
        load(folder)


def test_a_checkpoint_with_holes_is_refused(folder, load):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    lost = next(name for name in tensors if name.endswith("layer.1.attention.self.query.weight"))
    del tensors[lost]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 weights are missing, such as .*layer.1.attention.self.query.weight"):
        load(folder)


def test_a_cut_off_weights_file_is_an_error(folder, load):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
        load(folder)


def test_weights_in_half_precision_are_computed_in_float32(folder, load):
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = load(folder)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


def test_a_static_table_is_sent_to_its_encoder(tmp_path, load):
    from coembed_text.tiny import write_layout, write_table

    write_table(tmp_path)
    write_layout(tmp_path, [(".", "sentence_transformers.models.StaticEmbedding", {})])
    with pytest.raises(ValueError, match="use text/static"):
        load(tmp_path)
