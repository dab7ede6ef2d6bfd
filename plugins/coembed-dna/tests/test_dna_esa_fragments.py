"""`dna/fragments`: pairs by number, noise as stated, and overlapping fragments that are never negatives."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor

import coembed
from coembed import Space
from coembed.embedding import Embedding
from coembed.objectives import Objective
from coembed.tasks import Contrast
from coembed_dna.esa.reference import Reference
from coembed_dna.fragments import FragmentReads
from coembed_dna.noise import Rates, counted, mutate
from coembed_dna.sequence import reverse_complement


def draw(length: int, seed: int = 0, letters: str = "ACGT") -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


GENOME = {"one": draw(9000, 1), "two": draw(3000, 2)}
SIZES = {"fragment": (200, 300), "read": (50, 80)}


def test_a_record_is_a_function_of_seed_and_number():
    source = FragmentReads(GENOME, 50, **SIZES, insertions=(0, 0.05))
    backwards = [source[i] for i in reversed(range(50))][::-1]
    assert list(source) == backwards == list(FragmentReads(GENOME, 60, **SIZES, insertions=(0, 0.05)))[:50]
    assert source[-1] == source[49] and len({record.id for record in source}) == 50
    assert source[3]["read"] != FragmentReads(GENOME, 50, **SIZES, insertions=(0, 0.05), seed=1)[3]["read"]
    with pytest.raises(IndexError, match="record 50: the source has 50"):
        source[50]


def test_a_clean_read_is_where_the_record_says():
    source = FragmentReads(GENOME, 300, **SIZES, noisy=0)
    strands = set()
    for record in source:
        at = record.extra
        there = GENOME[at["contig"]][at["start"] : at["end"]]
        assert record["read"] == (there if at["strand"] == "+" else reverse_complement(there))
        assert there in record["fragment"] and 50 <= len(there) <= 80 and 200 <= len(record["fragment"]) <= 300
        start = at["fragment"]
        assert record["fragment"] == GENOME[at["contig"]][start : start + len(record["fragment"])]
        strands.add(at["strand"])
    assert strands == {"+", "-"}
    assert {record.extra["contig"] for record in source} == {"one", "two"}


def test_overlapping_fragments_share_their_group():
    records = list(FragmentReads(GENOME, 400, **SIZES))
    spans = [(r.extra["contig"], r.extra["fragment"], r.extra["fragment"] + len(r["fragment"])) for r in records]
    shared = apart = 0
    for i, (contig, start, end) in enumerate(spans):
        for j in range(i):
            overlap = spans[j][0] == contig and spans[j][1] < end and start < spans[j][2]
            if overlap:
                assert records[i].group == records[j].group == records[j].label
                shared += 1
            apart += records[i].group != records[j].group
    assert shared > 100 and apart > 100
    train, held = FragmentReads(GENOME, 400, **SIZES).split(0.3)
    assert not {r.group for r in train} & {r.group for r in held}


class Keys(Objective):
    """Keeps the keys that it is given."""

    keys: Tensor | None = None

    def forward(self, a, b, *, weights=None, keys=None, mask=None, negatives=None):
        self.keys = keys
        return a.values.sum() * 0


def test_the_task_takes_no_overlap_for_a_negative():
    source, objective = FragmentReads(GENOME, 64, **SIZES), Keys()
    space = Space({name: coembed.load("dna/kmer", k=2) for name in source.towers})
    task = Contrast(source, source.towers, objective, same="group")
    task.prepare(space)
    task.loss(list(source), lambda tower, rows, role: Embedding.from_vectors(torch.ones(len(rows), 2)), space)
    groups = [record.group for record in source]
    assert objective.keys is not None
    assert (objective.keys[:, None] == objective.keys).tolist() == [[a == b for b in groups] for a in groups]


def test_rates_are_met():
    text = draw(200_000, 3)
    random_ = counted(5, 1)
    changed = mutate(text, Rates(substitutions=(0.05, 0.05)), random_)
    assert sum(a != b for a, b in zip(text, changed, strict=True)) / len(text) == pytest.approx(0.05, abs=0.003)
    assert len(mutate(text, Rates(insertions=(0.03, 0.03)), random_)) / len(text) == pytest.approx(1.03, abs=0.003)
    assert len(mutate(text, Rates(deletions=(0.04, 0.04)), random_)) / len(text) == pytest.approx(0.96, abs=0.003)
    assert mutate("NNNN" * 100, Rates((1, 1)), random_) == "NNNN" * 100
    assert set(mutate("A" * 1000, Rates((1, 1)), random_)) == set("CGT")
    assert mutate("ACGT", Rates(deletions=(1, 1)), random_) == "A"
    assert np.isclose(mutate("A" * 60_000, Rates((1, 1)), random_).count("C"), 20_000, rtol=0.05)


def test_the_shares_of_noisy_and_reversed_reads_are_met():
    source = FragmentReads(GENOME, 2000, **SIZES, noisy=0.25, substitutions=(0.2, 0.2), reverse=0.6)
    noisy = reverse = 0
    for record in source:
        there = GENOME[record.extra["contig"]][record.extra["start"] : record.extra["end"]]
        reverse += record.extra["strand"] == "-"
        noisy += record["read"] not in (there, reverse_complement(there))
    assert noisy / 2000 == pytest.approx(0.25, abs=0.03) and reverse / 2000 == pytest.approx(0.6, abs=0.04)


def test_reads_hold_no_n_and_hopeless_references_are_named():
    source = FragmentReads({"one": draw(500, 4) + "N" * 400 + draw(500, 5)}, 200, **SIZES)
    assert not any("N" in record["read"] for record in source)
    assert any("N" in record["fragment"] for record in source)
    with pytest.raises(ValueError, match="record 0: 100 reads drawn, all with N"):
        FragmentReads({"one": "N" * 5000}, 5, **SIZES)[0]
    with pytest.raises(ValueError, match="every contig is shorter than the longest read, 80 bases"):
        FragmentReads({"one": draw(79)}, 5, **SIZES)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"fragment": (300, 200)}, r"fragment=\(300, 200\): a range of lengths must rise"),
        ({"read": (50, 250)}, "reads are drawn inside fragments"),
        ({"noisy": 1.5}, r"noisy=1\.5 must lie in 0\.\.1"),
        ({"insertions": (0.2, 0.1)}, "a range of rates must rise within"),
        ({"count": 0}, "count 0 must be at least 1"),
    ],
)
def test_arguments_that_cannot_be(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FragmentReads(GENOME, **{**SIZES, **kwargs})


def test_a_file_and_sequences_give_the_same(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name} more\n{text.lower()}\n" for name, text in GENOME.items()), "utf-8")
    ours = coembed.load("dna/fragments", reference=path, count=20, **SIZES)
    assert list(ours) == list(FragmentReads(Reference(GENOME), 20, **SIZES))
    assert ours.towers == ("fragment", "read")
