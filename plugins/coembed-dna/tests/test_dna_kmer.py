"""`dna/kmer`: counts against a plain count, strands, hashing, weights, saving."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

import coembed
from coembed_dna.kmer import DnaKmers
from coembed_dna.sequence import reverse_complement
from coembed_dna.spectrum import canonical_columns, hashed_columns, kmer_codes, letter_table


def draw(length: int, seed: int = 0, letters: str = "ACGT") -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6, 7, 8])
def test_counts_equal_a_plain_count(k):
    texts = [draw(300, seed=1, letters="ACGTN"), draw(k, seed=2), draw(k - 1, seed=3) or "N", "N" * 30]
    counts = coembed.load("dna/kmer", k=k, canonical=False).counts(texts)
    for text, row in zip(texts, counts, strict=True):
        found = Counter(text[i : i + k] for i in range(len(text) - k + 1) if "N" not in text[i : i + k])
        expected = [found["".join(word)] for word in product("ACGT", repeat=k)]
        assert row.tolist() == expected


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_canonical_columns_are_pairs_of_strands(k):
    texts = [draw(200, seed=4, letters="ACGTN"), "AACC"]
    counts = coembed.load("dna/kmer", k=k).counts(texts)
    plain = coembed.load("dna/kmer", k=k, canonical=False).counts(texts)
    words = ["".join(word) for word in product("ACGT", repeat=k)]
    least = [i for i, word in enumerate(words) if word <= reverse_complement(word)]
    at = {word: i for i, word in enumerate(words)}
    assert counts.shape[1] == len(least) == canonical_columns(k)[1]
    for column, i in enumerate(least):
        other = at[reverse_complement(words[i])]
        assert torch.equal(counts[:, column], plain[:, i] + (plain[:, other] if other != i else 0))


@pytest.mark.parametrize("kwargs", [{}, {"dim": 512}, {"k": 11, "dim": 4096}, {"scaling": "count"}])
def test_both_strands_have_one_vector(kwargs):
    encoder = coembed.load("dna/kmer", **kwargs)
    text = draw(500, seed=5)
    x = encoder.encode([text, reverse_complement(text), draw(500, seed=6)]).vectors
    assert torch.allclose(x[0], x[1], atol=1e-7) and x[0] @ x[2] < 0.9
    one = coembed.load("dna/kmer", **kwargs, canonical=False).encode([text, reverse_complement(text)]).vectors
    assert not torch.allclose(one[0], one[1], atol=1e-2)


def test_hashed_inner_products_are_unbiased():
    text = draw(400, seed=7)
    other = text[:200] + draw(200, seed=8)
    exact = coembed.load("dna/kmer", k=8, scaling="count").encode([text, other]).vectors
    widths = (997, 1009, 2048, 4001, 4096)
    found = [coembed.load("dna/kmer", k=8, dim=d, scaling="count").encode([text, other]).vectors for d in widths]
    mean = torch.stack([x[0] @ x[1] for x in found]).mean()
    assert abs(mean - exact[0] @ exact[1]) < 0.03


def test_the_hash_is_the_same_in_every_process():
    code = (
        "import numpy as np; from coembed_dna.spectrum import hashed_columns as h;"
        "print(*h(np.array([0, 5, 2**63], np.uint64), 1 << 16)[0])"
    )
    seeds = [os.environ | {"PYTHONHASHSEED": seed} for seed in ("1", "2")]
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env) for env in seeds]
    here = hashed_columns(np.array([0, 5, 2**63], np.uint64), 1 << 16)[0]
    assert runs[0].stdout == runs[1].stdout and runs[0].stdout.split() == [str(v).encode() for v in here]
    assert here[0] == 0xE220A8397B1DCDAF % (1 << 16)  # SplitMix64's first number


def test_long_kmers_do_not_overflow():
    text = "T" * 40
    codes, known = kmer_codes(letter_table("ACGT")[list(text.encode())], 31, 4)
    assert known.all() and set(codes.tolist()) == {4**31 - 1}


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [("count", [4.0, 1.0]), ("sqrt", [2.0, 1.0]), ("binary", [1.0, 1.0]), ("log", [1 + math.log(4), 1.0])],
)
def test_scaling(scaling, expected):
    encoder = coembed.load("dna/kmer", k=1, canonical=False, scaling=scaling)
    values = encoder(encoder.collate(["AAAAC"])).vectors[0, :2]
    assert torch.allclose(values, torch.tensor(expected))
    assert encoder.encode(["AAAAC"]).vectors.norm().sub(1).abs() < 1e-6


def test_fitted_weights_favour_rare_kmers(tmp_path):
    corpus = ["ACGTACGT" + draw(20, seed=i) for i in range(20)]
    encoder = coembed.load("dna/kmer", k=4, canonical=False)
    plain = encoder.encode(corpus[:2]).vectors
    encoder.fit(corpus)
    fitted = encoder.encode(corpus[:2]).vectors
    assert fitted[0] @ fitted[1] < plain[0] @ plain[1]  # what they share is what all share
    encoder.save(tmp_path)
    again = DnaKmers.open(coembed.load("dna/kmer").spec, tmp_path)
    assert (
        again.k == 4 and not again.canonical and torch.equal(again.encode(corpus).values, encoder.encode(corpus).values)
    )
    assert DnaKmers.open(encoder.spec, tmp_path).fingerprint() == encoder.fingerprint()


def test_arguments_that_cannot_be():
    for kwargs, message in (
        ({"k": 0}, r"k=0 must lie in 1\.\.31"),
        ({"k": 32, "dim": 8}, r"k=32 must lie in 1\.\.31"),
        ({"k": 12}, "hash them, say dim=65536"),
        ({"dim": 0}, "dim=0 leaves no column"),
        ({"scaling": "tf"}, "scaling='tf' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            coembed.load("dna/kmer", **kwargs)
    with pytest.raises(ValueError, match="fit needs at least one sequence"):
        coembed.load("dna/kmer").fit([])
    assert list(coembed.load("dna/kmer").parameters()) == []


def test_a_piece_of_a_genome_finds_its_place():
    genome = draw(20_000, seed=9)
    places = range(0, 19_500, 500)
    encoder = coembed.load("dna/kmer", k=8, dim=4096)
    index = encoder.encode([genome[at : at + 500] for at in places]).vectors
    reads = [list(genome[at + 100 : at + 350]) for at in places]
    for read in reads:
        for spot in range(0, 250, 25):  # four substitutions in a hundred
            read[spot] = {"A": "C", "C": "G", "G": "T", "T": "A"}[read[spot]]
    queries = encoder.encode([reverse_complement("".join(read)) for read in reads]).vectors
    assert (queries @ index.T).argmax(1).tolist() == list(range(len(reads)))
