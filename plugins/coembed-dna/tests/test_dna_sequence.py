"""What counts as DNA: letters kept, changed and refused, and the kinds of items."""

from __future__ import annotations

import pytest
from Bio.Seq import MutableSeq, Seq
from Bio.SeqRecord import SeqRecord

import coembed
from coembed import BadItem
from coembed_dna.sequence import clean, reverse_complement

NAMES = ("dna/transformer", "dna/kmer", "dna/hf")


@pytest.fixture(scope="module", params=NAMES)
def encoder(request):
    from coembed.plugins import plugins
    from coembed.spec import resolve

    spec = plugins().plugin("dna").find(request.param)[1]
    return resolve(spec.target).tiny(spec)


@pytest.mark.parametrize(
    ("item", "letters"),
    [
        ("acgtn", "ACGTN"),
        ("AUGC", "ATGC"),
        ("RYSWKMBDHVNryswkmbdhvn", "N" * 22),
        ("NNNN", "NNNN"),
        (Seq("acu"), "ACT"),
        (MutableSeq("ACG"), "ACG"),
        (SeqRecord(Seq("ggg"), id="x"), "GGG"),
    ],
)
def test_taken(item, letters):
    assert clean(item) == letters


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("", "got an empty sequence"),
        ("AC--GT", r"gaps '-' in str 'AC--GT', the first at 2, expected a DNA sequence without gaps"),
        ("A.C-", r"gaps '-', '\.' in"),
        ("ACG T", r"' ' in str 'ACG T', the first at 3, expected a DNA sequence of the letters ACGNT"),
        ("MKVLAE", r"'E', 'L' in str"),
        ("ACGT1", r"'1' in str"),
        ("ACGТ", r"'Т' in str"),  # a Cyrillic letter
        (b"ACGT", r"bytes b'ACGT', expected a DNA sequence: a str, Seq or SeqRecord"),
        (Seq(None, length=8), r"a Seq of unknown content"),
        (["A"], r"list \['A'\]"),
    ],
)
def test_refused_by_name_with_the_position(encoder, item, message):
    with pytest.raises(BadItem, match=message) as caught:
        encoder.encode(["ACGT", "GGCA", item])
    assert caught.value.position == 2


def test_the_same_sequence_in_other_writing_has_the_same_vector_and_key(encoder):
    one = Seq("ACGTACGTTNACGACGT")
    ways = ["ACGUACGTTNACGACGT", "acgtacgttracgacgt", one, SeqRecord(one, id="a")]
    vectors = encoder.encode(ways).vectors
    assert (vectors == vectors[:1]).all() and len({encoder.key(way) for way in ways}) == 1
    assert encoder.key("ACGT") != encoder.key("ACGA")


def test_only_unknown_bases_and_very_short_ones_are_finite(encoder):
    x = encoder.encode(["N" * 100, "A", "NN"])
    assert x.present.all() and x.values.isfinite().all()


def test_prompts_are_refused(encoder):
    with pytest.raises(ValueError, match=r"takes no prompt, got 'gene: '"):
        encoder.encode(["ACGT"], prompt="gene: ")


def test_reverse_complement_is_biopythons():
    text = "ACGTNNATTGCAG"
    assert reverse_complement(text) == str(Seq(text).reverse_complement())


@pytest.mark.parametrize("name", ["dna/transformer", "dna/kmer"])
def test_they_load_by_name(name):
    x = coembed.load(name).encode(["ACGTACGTACGT"])
    assert x.dim == {"dna/transformer": 256, "dna/kmer": 2080}[name]
