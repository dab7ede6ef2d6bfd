"""Checkpoints of proteins: equality with upstream's classes, windows, rare residues."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import AutoTokenizer, BertModel, EsmModel, T5EncoderModel

import coembed_protein
from coembed.spec import WEIGHTS, EncoderSpec
from coembed_protein.hf import HfProtein
from coembed_protein.sequence import RESIDUES
from coembed_protein.tiny import write_esm2, write_protbert, write_prott5
from coembed_text.packaged import CheckpointError

SPEC = EncoderSpec(name="protein/hf", modality="protein", dim=None, target="coembed_protein.hf:HfProtein")
#: how it is written, upstream's class, special tokens before and after
KINDS = {
    "esm2": (write_esm2, EsmModel, 1, 1),
    "protbert": (write_protbert, BertModel, 1, 1),
    "prott5": (write_prott5, T5EncoderModel, 0, 1),
}


def draw(length: int, seed: int = 0, letters: str = RESIDUES) -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for kind, (write, *_) in KINDS.items():
        made[kind] = tmp_path_factory.mktemp(kind)
        write(made[kind])
    return made


def reference(folder, kind: str, text: str) -> torch.Tensor:
    """Upstream's own tokeniser and class over one row, as its documentation uses it: features of the residues."""
    _, model, before, after = KINDS[kind]
    if kind != "esm2":
        text = " ".join("X" if letter in "UZOB" else letter for letter in text)
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        states = model.from_pretrained(folder).eval()(**ids).last_hidden_state[0]
    return states[before : len(states) - after]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["M", "MKTAYIAKQRQISFVK", "MXXGCUNVLWBZO", draw(62)])
def test_residues_and_vectors_are_those_of_upstreams_class(folders, kind, text):
    encoder = HfProtein(SPEC, model=str(folders[kind]))
    wanted = reference(folders[kind], kind, text)
    assert len(wanted) == len(text)
    tokens = encoder(encoder.collate([text]))
    assert torch.allclose(tokens.values[0][tokens.mask[0]], wanted, atol=1e-5)
    vectors = encoder.encode(["GG", text, draw(40, 1)]).vectors
    assert torch.allclose(vectors[1], wanted.mean(0), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_long_chains_are_the_mean_of_their_windows_by_length(folders, kind):
    encoder = HfProtein(SPEC, model=str(folders[kind]), max_length=64 if kind == "prott5" else None)
    assert encoder.max_length == 64
    size = 64 - KINDS[kind][2] - KINDS[kind][3]
    text = draw(2 * size + 5)  # three windows, as even as can be
    short, longer = divmod(len(text), 3)
    lengths = [short + (i < longer) for i in range(3)]
    starts = [0, lengths[0], lengths[0] + lengths[1]]
    parts = [text[at : at + n] for at, n in zip(starts, lengths, strict=True)]
    vectors = encoder.encode(parts).vectors
    expected = (vectors * torch.tensor(lengths)[:, None]).sum(0) / len(text)
    assert torch.allclose(encoder.encode([text]).vectors[0], expected, atol=1e-5)
    assert encoder(encoder.collate([text, "MKV"])).mask.sum(1).tolist() == [len(text), 3]
    plain = encoder.encode([text[:size]]).vectors[0]
    assert torch.allclose(plain, reference(folders[kind], kind, text[:size]).mean(0), atol=1e-5)


def test_no_residue_is_cut_off(folders):
    encoder = HfProtein(SPEC, model=str(folders["esm2"]))
    text = draw(500)
    x = encoder.encode([text, text[:-1] + ("W" if text[-1] != "W" else "A")]).vectors
    assert not torch.allclose(x[0], x[1], atol=1e-6)


def test_rare_residues_are_x_where_the_model_wants_that(folders):
    for kind, same in (("esm2", False), ("protbert", True), ("prott5", True)):
        encoder = HfProtein(SPEC, model=str(folders[kind]))
        x = encoder.encode(["MKUVB", "MKXVX", "MKJVX"]).vectors
        assert torch.equal(x[0], x[1]) == same and torch.equal(x[1], x[2])
        other = HfProtein(SPEC, model=str(folders[kind]), rare_to_x=not same)
        y = other.encode(["MKUVB", "MKXVX"]).vectors
        assert torch.equal(y[0], y[1]) != same


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_opened_without_the_checkpoint(folders, kind, tmp_path):
    encoder = HfProtein(SPEC, model=str(folders[kind]), rare_to_x=False)
    encoder.save(tmp_path)
    opened = HfProtein.open(SPEC, tmp_path)
    texts = ["MKUVB", draw(200), "mkv*"]
    assert torch.equal(opened.encode(texts).values, encoder.encode(texts).values)
    assert opened.fingerprint() == encoder.fingerprint() and opened.max_length == encoder.max_length
    assert torch.equal(opened.encode(texts, layer=1).values, encoder.encode(texts, layer=1).values)


def test_t5_without_a_limit_has_windows_of_1024(folders):
    assert HfProtein(SPEC, model=str(folders["prott5"])).max_length == 1024


def test_named_checkpoints_are_pinned():
    specs = {spec.name: spec for spec in coembed_protein.coembed_encoders()}
    named = {name: spec for name, spec in specs.items() if "esm2" in name}
    assert list(named) == [f"protein/esm2-{size}" for size in ("t6-8m", "t12-35m", "t30-150m", "t33-650m")]
    for spec in named.values():
        assert WEIGHTS.fullmatch(spec.weights) and spec.license == "MIT" and spec.layers and spec.dim
    with pytest.raises(CheckpointError, match="no checkpoint named"):
        HfProtein(specs["protein/hf"])
    with pytest.raises(CheckpointError, match="Rostlab/prot_bert with no revision is not pinned"):
        HfProtein(specs["protein/hf"], model="Rostlab/prot_bert")


def test_a_checkpoint_of_another_width_is_refused(folders):
    spec = EncoderSpec(name="protein/hf", modality="protein", dim=320, target=SPEC.target)
    with pytest.raises(CheckpointError, match=r"the spec says dim 320, but .* gives 64"):
        HfProtein(spec, model=str(folders["esm2"]))


def test_a_vocabulary_of_bases_reads_no_proteins(tmp_path):
    from coembed_dna.tiny import write_nucleotide

    write_nucleotide(tmp_path, k=2)
    with pytest.raises(CheckpointError, match="its vocabulary does not read the letters ACDEF"):
        HfProtein(SPEC, model=str(tmp_path))
