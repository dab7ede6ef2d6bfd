"""`text/hf`: early exit, batches, length, bad items, files, saving."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch

from coembed import BadItem, CoembedWarning, EncoderSpec, Space, Tower
from coembed_text.hf import HfText

HF = EncoderSpec(name="text/hf", modality="text", dim=None, target="coembed_text.hf:HfText")
TEXTS = ["hello world", "a", "", "Größe 東京 👍", "one two three four five six seven"]
ARCHITECTURES = {
    "bert": ("BertConfig", "BertModel", {}),
    "roberta": ("XLMRobertaConfig", "XLMRobertaModel", {"pad_token_id": 1, "max_position_embeddings": 130}),
    "mpnet": ("MPNetConfig", "MPNetModel", {"pad_token_id": 1, "max_position_embeddings": 130}),
    "modernbert": ("ModernBertConfig", "ModernBertModel", {"local_attention": 16}),
    "qwen": ("Qwen3Config", "Qwen3Model", {"num_key_value_heads": 1, "head_dim": 16}),
}


@pytest.fixture(params=ARCHITECTURES)
def any_model(request, tmp_path, load):
    """Small random models of the families that the named checkpoints use, and one causal."""
    import transformers

    from coembed_text.tiny import byte_tokenizer

    config, model, extra = ARCHITECTURES[request.param]
    common = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64,
              "vocab_size": 261, "pad_token_id": 0, "max_position_embeddings": 128, "bos_token_id": 2,
              "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}  # fmt: skip
    getattr(transformers, model)(getattr(transformers, config)(**common | extra)).save_pretrained(str(tmp_path))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(str(tmp_path))
    return load(tmp_path)


def test_one_pass_gives_what_a_pass_to_each_layer_gives(any_model):
    batch, last = any_model.collate(TEXTS[:2]), any_model.layers
    runs = []
    hooks = [block.register_forward_hook(lambda *_: runs.append(1)) for block in any_model.blocks()]
    with torch.inference_mode():
        found = any_model.hidden(batch, [last, 1, 1])
        assert len(runs) == last
        for layer, tokens in zip([last, 1, 1], found, strict=True):
            expected = any_model(batch, layer)
            torch.testing.assert_close(tokens.values, expected.values, rtol=0, atol=0)
            assert torch.equal(tokens.mask, expected.mask)
    for hook in hooks:
        hook.remove()
    with pytest.raises(ValueError, match="early exits"):
        any_model.hidden(batch, [last + 1])


def test_early_exit_runs_only_the_first_layers(any_model):
    calls: list[int] = []
    for number, block in enumerate(any_model.blocks()):
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
    outputs = []
    for layer in (1, 2, 3, None):
        calls.clear()
        outputs.append(any_model.encode(TEXTS[:2], layer=layer).vectors)
        assert calls == list(range(layer or 3))
    assert torch.equal(outputs[2], outputs[3])
    assert not torch.allclose(outputs[0], outputs[1])
    assert len(any_model.blocks()) == any_model.layers == 3  # the model itself is whole again, always was
    with pytest.raises(ValueError, match=r"layer 4 asked.*1\.\.3"):
        any_model.encode(TEXTS, layer=4)


def test_early_exit_trains_the_shared_weights(load, folder):
    encoder = load(folder)
    encoder.pooled(encoder(encoder.collate(TEXTS[:2]), layer=1)).vectors.sum().backward()
    touched = [any(p.grad is not None for p in block.parameters()) for block in encoder.blocks()]
    assert touched == [True, False, False]


def test_layers_that_share_weights_have_no_early_exit(tmp_path, load):
    import transformers

    path = tmp_path / "albert"
    config = transformers.AlbertConfig(
        vocab_size=261, embedding_size=16, hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=128,
    )  # fmt: skip
    transformers.AlbertModel(config).save_pretrained(str(path))
    from coembed_text.tiny import byte_tokenizer

    transformers.PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), pad_token="[PAD]").save_pretrained(
        str(path)
    )
    encoder = load(path)
    assert encoder.layers is None and list(encoder.blocks()) == []
    with pytest.raises(ValueError, match="no early exits"):
        encoder.encode(["a"], layer=1)


def test_a_text_has_one_vector_in_any_batch(any_model):
    alone = torch.cat([any_model.encode([text]).vectors for text in TEXTS])
    for size in (1, 2, 5):
        assert any_model.encode(TEXTS, batch_size=size).vectors.sub(alone).abs().max() < 1e-6
    assert any_model.encode(TEXTS[::-1]).vectors.flip(0).sub(alone).abs().max() < 1e-6


def test_cut_texts_are_counted_and_told_once(load, folder):
    encoder = load(folder, max_length=8)
    with pytest.warns(CoembedWarning) as seen:
        encoder.encode(["short", *(f"far too long for eight, {number}" for number in range(5))], batch_size=2)
    assert str(seen[0].message).startswith("text/hf: 5 of 6 texts are longer than max_length=8 tokens")
    assert len(seen) == 1
    with pytest.warns(CoembedWarning, match="1 of 1 texts in a batch"):  # outside a job, as in training
        encoder.collate(["far too long for eight"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.collate(["far too long for eight"])
        encoder.encode(["short"])
    with pytest.warns(CoembedWarning):  # a copy in a worker speaks for itself
        pickle.loads(pickle.dumps(encoder)).collate(["far too long for eight"])
    assert encoder.size("far too long for eight") == 8 and encoder.size("ab") == 4


def test_length_is_checked(load, folder):
    assert load(folder).max_length == 128
    assert load(folder, max_length=64).max_length == 64
    for length in (129, 2):
        with pytest.raises(ValueError, match=f"max_length={length}"):
            load(folder, max_length=length)


@pytest.mark.parametrize("bad", [3, None, b"bytes", ["list"], "\ud800"])
def test_a_bad_item_names_its_position(load, folder, bad):
    encoder = load(folder)
    items = ["fine", "also fine", "a longer one that comes first when sorted", bad, "fine"]
    with pytest.raises(BadItem) as caught:
        encoder.encode(items, batch_size=2)
    assert caught.value.position == 3
    seen: list[BadItem] = []
    rows = encoder.encode(items, batch_size=2, on_error=seen.append)
    assert [error.position for error in seen] == [3] and rows.present.tolist() == [True, True, True, False, True]
    assert torch.allclose(rows[[0]].vectors, encoder.encode(["fine"]).vectors, atol=1e-6)


def test_overrides(load, folder):
    encoder = load(folder, pooling=("cls", "mean"), normalize=True, prompts={"query": "q: "})
    assert encoder.dim == 64 and encoder.prompts == {"query": "q: ", "document": ""}
    assert torch.allclose(encoder.encode(TEXTS).vectors.norm(dim=1), torch.ones(len(TEXTS)))
    assert torch.equal(encoder.encode(["a"], role="query").values, encoder.encode(["q: a"]).values)
    with pytest.raises(ValueError, match="pooling mode 'median' is unknown: use cls"):
        load(folder, pooling="median")
    with pytest.raises(ValueError, match="no role 'qurey'"):
        encoder.encode(["a"], role="qurey")


def test_the_spec_must_tell_the_truth(folder):
    spec = EncoderSpec(name="text/x", modality="text", dim=384, target="coembed_text.hf:HfText")
    with pytest.raises(ValueError, match=r"the spec says dim 384, but .* gives 32"):
        HfText(spec, model=str(folder))


def test_saved_and_opened_without_the_checkpoint(load, folder, tmp_path, offline):
    encoder = load(folder, pooling=("mean", "max"), normalize=True, prompts={"query": "q: "}, max_length=20)
    with torch.no_grad():
        encoder.blocks()[0].attention.self.query.weight.add_(0.1)  # as training would
    encoder.save(tmp_path / "saved")
    for path in folder.iterdir():
        path.unlink()
    again = HfText.open(HF, tmp_path / "saved")
    assert again.fingerprint() == encoder.fingerprint()
    assert (again.dim, again.max_length, again.layers, again.prompts) == (64, 20, 3, encoder.prompts)
    assert torch.equal(again.encode(TEXTS[:3], role="query").values, encoder.encode(TEXTS[:3], role="query").values)
    (tmp_path / "saved" / "text.json").write_text('{"layout": 3}')
    with pytest.raises(ValueError, match=r"text.json is not what HfText writes"):
        HfText.open(HF, tmp_path / "saved")


def test_a_space_keeps_the_name_or_the_weights(folder, tmp_path):
    import coembed

    spec_tower = coembed.load("text/hf", model=str(folder))
    Space({"text": Tower(spec_tower, dim=8)}).save(tmp_path / "named")
    Space({"text": Tower(spec_tower, dim=8)}).save(tmp_path / "copied", copy_weights=True)
    expected = Space.load(tmp_path / "named").encode("text", TEXTS).vectors
    folder.rename(folder.parent / "gone")
    assert Space.load(tmp_path / "copied").encode("text", TEXTS).vectors.shape == expected.shape
    with pytest.raises(ValueError, match="neither a folder here nor"):
        Space.load(tmp_path / "named")


def test_the_fingerprint_tells_what_decides_the_vectors(load, folder):
    base = load(folder).fingerprint()
    assert load(folder).fingerprint() == base
    for change in ({"pooling": "cls"}, {"normalize": True}, {"max_length": 64}, {"prompts": {"query": "q: "}}):
        assert load(folder, **change).fingerprint() != base, change


def test_reads_whole_files_as_utf8(load, folder, tmp_path):
    encoder = load(folder)
    path = tmp_path / "note.md"
    path.write_bytes("\ufeff# Title\r\n\r\nGröße\r\n".encode())
    assert encoder.read(path) == ["# Title\n\nGröße"]
    path.write_bytes("Größe".encode("latin-1"))
    with pytest.raises(ValueError, match=r"note.md: not UTF-8 text \(byte 0xf6 at offset 2\)"):
        encoder.read(path)
    path.write_bytes(b"\x89PNG\0\0")
    with pytest.raises(ValueError, match="binary file"):
        encoder.read(path)
    path.write_bytes(b" \n")
    with pytest.raises(ValueError, match="holds no text"):
        encoder.read(path)


def test_copies_and_trains(load, folder):
    encoder = copy.deepcopy(load(folder)).train()
    loss = encoder.pooled(encoder(encoder.collate(TEXTS))).vectors.square().sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
