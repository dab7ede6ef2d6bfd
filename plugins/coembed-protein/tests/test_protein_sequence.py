"""What counts as a protein: letters kept, changed and refused; windows and spectra of residues."""

from __future__ import annotations

import pytest
import torch
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord

import coembed
from coembed import BadItem
from coembed.spec import resolve
from coembed_protein.sequence import clean

NAMES = ("protein/transformer", "protein/kmer", "protein/hf")


@pytest.fixture(scope="module", params=NAMES)
def encoder(request):
    from coembed.plugins import plugins

    spec = plugins().plugin("protein").find(request.param)[1]
    return resolve(spec.target).tiny(spec)


@pytest.mark.parametrize(
    ("item", "letters"),
    [
        ("mkv", "MKV"),
        ("MKV*", "MKV"),
        ("MJV", "MXV"),
        ("BOUZX", "BOUZX"),
        (Seq("mk*"), "MK"),
        (SeqRecord(Seq("W")), "W"),
    ],
)
def test_taken(item, letters):
    assert clean(item) == letters


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("", "an empty sequence"),
        ("*", r"a stop '\*' at 0"),
        ("MK*V", r"a stop '\*' at 2 in str 'MK\*V', expected a protein sequence with a stop at its end at most"),
        ("MKV**", r"a stop '\*' at 3"),
        ("MK--V", r"gaps '-' in str 'MK--V', the first at 2, expected a protein sequence without gaps"),
        ("MK V", r"' ' in str 'MK V', the first at 2"),
        ("MK7", r"'7' in str"),
        ("MKß", "'ß' in str"),
        (7, r"int 7, expected a protein sequence: a str, Seq or SeqRecord"),
    ],
)
def test_refused_by_name_with_the_position(encoder, item, message):
    with pytest.raises(BadItem, match=message) as caught:
        encoder.encode(["MKV", item])
    assert caught.value.position == 1


def test_the_same_protein_in_other_writing_has_the_same_vector_and_key(encoder):
    ways = ["MKTAYIAKQR", "mktayiakqr*", Seq("MKTAYIAKQR"), SeqRecord(Seq("MKTAYIAKQR"), id="a")]
    vectors = encoder.encode(ways).vectors
    assert (vectors == vectors[:1]).all() and len({encoder.key(way) for way in ways}) == 1


def test_prompts_are_refused(encoder):
    with pytest.raises(ValueError, match="takes no prompt"):
        encoder.encode(["MKV"], prompt="protein: ")


@pytest.mark.parametrize("tokenizer", ["characters", "bpe:34"])
def test_windows_of_the_transformer(tokenizer):
    encoder = coembed.load("protein/transformer", dim=32, layers=2, max_length=12, tokenizer=tokenizer)
    if not encoder.fitted:
        encoder.fit_tokenizer([*encoder.samples(), "MKTAYIAKQRQISFVKSHFSRQ" * 3])
    text = "MKTAYIAKQRQISFVKSHFSRQLEE"
    ids = encoder.tokenizer.ids(text)[1:-1]
    assert len(ids) > 10
    batch = encoder.collate([text, "MKV"])
    x = encoder.encode([text, "MKV"]).vectors
    windows = batch["ids"][0, 0][batch["mask"][0, 0].any(-1)]
    assert [i for row in windows.tolist() for i in row if i not in encoder.tokenizer.specials] == ids
    if tokenizer == "characters":
        parts = encoder.encode([text[:9], text[9:17], text[17:]]).vectors
        weights = torch.tensor([11.0, 10.0, 10.0])
        assert torch.allclose(x[0], (parts * weights[:, None]).sum(0) / 31, atol=1e-5)
    assert torch.allclose(x[1], encoder.encode(["MKV"]).vectors[0], atol=1e-6)
    assert encoder.overlong([text, "MKV"]) == 1


def test_spectra_count_residues_in_a_row():
    encoder = coembed.load("protein/kmer", k=2, scaling="count")
    counts = encoder.counts(["ACACXACU"])[0]
    order = "ACDEFGHIKLMNPQRSTVWY"
    found = {order[i // 20] + order[i % 20]: int(n) for i, n in enumerate(counts) if n}
    assert found == {"AC": 3, "CA": 1}
    assert coembed.load("protein/kmer", k=5, dim=1024).encode(["MKTAYIAKQR"]).dim == 1024
    with pytest.raises(ValueError, match="k=5 gives 3200000 columns"):
        coembed.load("protein/kmer", k=5)
    with pytest.raises(ValueError, match="max_length=1 leaves no room"):
        coembed.load("protein/transformer", max_length=1)
