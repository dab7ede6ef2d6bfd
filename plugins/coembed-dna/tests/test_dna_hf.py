"""`dna/hf`: equality with upstream's classes, windows, strands, refusals."""

from __future__ import annotations

import json
import random

import pytest
import torch
from transformers import AutoTokenizer, EsmModel

from coembed.spec import EncoderSpec
from coembed_dna.hf import HfDna
from coembed_dna.sequence import SAMPLES, clean, reverse_complement
from coembed_dna.tiny import write_nucleotide
from coembed_text.packaged import CheckpointError

SPEC = EncoderSpec(name="dna/hf", modality="dna", dim=None, target="coembed_dna.hf:HfDna")


def draw(length: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=length))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("nucleotide")
    write_nucleotide(made, k=6, max_length=40)
    return made


def reference(folder, text: str, layer: int | None = None) -> torch.Tensor:
    """Upstream's own tokeniser and class over one row: its tokens' features, without <cls>."""
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    model = EsmModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(**ids).last_hidden_state[0, 1:]


@pytest.mark.parametrize("text", [*SAMPLES, "ACGTACNNNACGTACGA", "A", "N" * 9, draw(6 * 39)])
def test_tokens_and_vectors_are_those_of_upstreams_classes(folder, text):
    encoder = HfDna(SPEC, model=str(folder))
    wanted = reference(folder, clean(text))
    tokens = encoder(encoder.collate([text]))
    assert torch.allclose(tokens.values[0][tokens.mask[0]], wanted, atol=1e-5)
    vectors = encoder.encode(["ACG", text, draw(100)]).vectors
    assert torch.allclose(vectors[1], wanted.mean(0), atol=1e-5)


def test_long_ones_are_the_mean_of_their_windows_by_length(folder):
    encoder = HfDna(SPEC, model=str(folder))
    assert encoder.max_length == 40
    text = draw(6 * 100)  # 100 tokens, 39 a window: 34 + 33 + 33
    parts = [text[: 6 * 34], text[6 * 34 : 6 * 67], text[6 * 67 :]]
    vectors = encoder.encode(parts).vectors
    expected = (vectors * torch.tensor([34.0, 33.0, 33.0])[:, None]).sum(0) / 100
    assert torch.allclose(encoder.encode([text]).vectors[0], expected, atol=1e-5)
    assert encoder(encoder.collate([text, "ACGTAC"])).mask.sum(1).tolist() == [100, 1]
    short = HfDna(SPEC, model=str(folder), max_length=8)
    assert not torch.allclose(short.encode([text]).vectors[0], expected, atol=1e-5)


def test_both_strands_have_one_vector(folder, tmp_path):
    encoder = HfDna(SPEC, model=str(folder), reverse_complement="average")
    texts = [draw(50), draw(300, 1), "ACGTACNNNACGTACGA"]
    x = encoder.encode(texts).vectors
    assert (x - encoder.encode([reverse_complement(text) for text in texts]).vectors).abs().max() < 1e-6
    one = HfDna(SPEC, model=str(folder))
    both = [one.encode(part).vectors for part in (texts, [reverse_complement(text) for text in texts])]
    assert torch.allclose(x, (both[0] + both[1]) / 2, atol=1e-5) and not torch.allclose(both[0], both[1], atol=1e-3)
    encoder.save(tmp_path)
    opened = HfDna.open(SPEC, tmp_path)
    assert torch.equal(opened.encode(texts).values, encoder.encode(texts).values)
    assert opened.max_length == 40 and opened.fingerprint() == encoder.fingerprint()


def changed(folder, tmp_path, name: str, **facts):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / name).read_text()) | facts
    (tmp_path / name).write_text(json.dumps(config))
    return str(tmp_path)


def test_code_of_a_checkpoint_is_refused_with_the_reason(folder, tmp_path):
    where = changed(folder, tmp_path, "config.json", auto_map={"AutoModel": "modeling_esm.EsmModel"})
    with pytest.raises(CheckpointError, match=r"code that it brings along \(auto_map: modeling_esm\.EsmModel\)"):
        HfDna(SPEC, model=where)


def test_an_unknown_architecture_and_foreign_vocabulary_are_refused(folder, tmp_path):
    where = changed(folder, tmp_path, "config.json", model_type="hyenadna")
    with pytest.raises(CheckpointError, match="model_type 'hyenadna' is not one of transformers' own"):
        HfDna(SPEC, model=where)
    changed(folder, tmp_path, "config.json")
    tokens = (tmp_path / "vocab.txt").read_text().split("\n")
    lower = [token.lower() if token.isalpha() else token for token in tokens]
    (tmp_path / "vocab.txt").write_text("\n".join(lower))
    with pytest.raises(CheckpointError, match="its vocabulary does not read the letters ACGT"):
        HfDna(SPEC, model=where)
    lacking = [token if token != "ACGTAC" else "<other>" for token in tokens]
    (tmp_path / "vocab.txt").write_text("\n".join(lacking))
    with pytest.raises(CheckpointError, match=r"4095 tokens of 6 letters, not all 4\^6"):
        HfDna(SPEC, model=where)


def test_names_and_lengths_that_cannot_be(folder):
    with pytest.raises(CheckpointError, match="no checkpoint named"):
        HfDna(SPEC)
    with pytest.raises(CheckpointError, match="is not pinned"):
        HfDna(SPEC, model="InstaDeepAI/nucleotide-transformer-500m-human-ref")
    for length in (1, 41):
        with pytest.raises(ValueError, match=rf"max_length={length} must lie in 2\.\.40"):
            HfDna(SPEC, model=str(folder), max_length=length)
    with pytest.raises(ValueError, match="reverse_complement='both' is unknown"):
        HfDna(SPEC, model=str(folder), reverse_complement="both")


def test_files_that_are_damaged_are_named(folder, tmp_path):
    where = changed(folder, tmp_path, "config.json")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json can't be read as a configuration"):
        HfDna(SPEC, model=where)
    encoder = HfDna(SPEC, model=str(folder))
    encoder.save(tmp_path / "saved")
    (tmp_path / "saved" / "sequence.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"sequence\.json is not what HfDna writes"):
        HfDna.open(SPEC, tmp_path / "saved")
