"""Tiling, references and CIGARs: nothing is lost between fragments, and operations say what was read."""

from __future__ import annotations

import random

import pytest

from coembed_dna.esa import cigar
from coembed_dna.esa.reference import Reference, as_reference
from coembed_dna.esa.tiling import tile


def draw(length: int, seed: int = 0, letters: str = "ACGT") -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


@pytest.mark.parametrize("seed", range(40))
def test_every_read_up_to_the_stated_length_lies_whole_in_a_fragment(seed):
    pick = random.Random(seed)
    length = pick.randint(1, 60)
    step = pick.randint(1, length)
    contigs = {f"c{i}": draw(pick.randint(1, 200), seed + i, "ACGTN" if i else "NNNNNA") for i in range(3)}
    reference = Reference({**contigs, "base": "A"})
    tiling = tile(reference, length, step)
    for name, text in reference.contigs.items():
        inside = [(part.start, part.end) for part in tiling.fragments if part.contig == name]
        longest = min(tiling.covers, len(text))
        for at in range(len(text) - longest + 1):
            if set(text[at : at + longest]) != {"N"}:
                assert any(start <= at and at + longest <= end for start, end in inside), (name, at)
        assert all(0 <= start < end <= len(text) and end - start <= length for start, end in inside)


def test_one_base_more_than_covers_can_fall_between():
    tiling = tile(Reference({"one": draw(100)}), 20, 15)
    assert tiling.covers == 6
    assert not any(part.start <= 14 and 21 <= part.end for part in tiling.fragments)


def test_fragments_of_n_alone_are_skipped_and_named():
    tiling = tile(Reference({"one": draw(30) + "N" * 60 + draw(30)}), 20, 10)
    assert [part.name for part in tiling.skipped] == ["one:30-50", "one:40-60", "one:50-70", "one:60-80", "one:70-90"]
    assert "one:20-40" in [part.name for part in tiling.fragments]
    with pytest.raises(ValueError, match="the reference is N alone: one"):
        tile(Reference({"one": "NNNN"}))


@pytest.mark.parametrize("step", [0, 11])
def test_a_step_that_leaves_gaps_is_refused(step):
    with pytest.raises(ValueError, match=rf"step={step} must lie in 1\.\.10"):
        tile(Reference({"one": "ACGT"}), 10, step)


def test_a_reference_is_known_by_names_and_bases(tmp_path):
    path = tmp_path / "two.fa"
    path.write_text(">one x\nacgtr\n>two\nGGG\n", "utf-8")
    one = Reference.read(path)
    assert dict(one.contigs) == {"one": "ACGTN", "two": "GGG"} and as_reference(one) is one
    assert one.digest == as_reference({"one": "ACGTN", "two": "GGG"}).digest
    others = [{"two": "GGG", "one": "ACGTN"}, {"one": "ACGTNG", "two": "GG"}, {"one": "ACGTN", "three": "GGG"}]
    assert len({one.digest, *(Reference(other).digest for other in others)}) == 4


def test_bad_references_are_named(tmp_path):
    for contigs, message in (
        ({}, "at least one contig"),
        ({"a b": "ACGT"}, "contig name 'a b' can't stand in a SAM file"),
        ({"one": "AC-GT"}, "contig one: got gaps '-'"),
        ({"one": ""}, "contig one: got an empty sequence"),
    ):
        with pytest.raises(ValueError, match=message):
            Reference(contigs)
    path = tmp_path / "twice.fa"
    path.write_text(">one\nACGT\n>one\nAAAA\n", "utf-8")
    with pytest.raises(ValueError, match=r"twice\.fa: two contigs are named 'one'"):
        Reference.read(path)


def test_cigars_contradicting_the_bases_are_refused():
    for text, read, there, message in (
        ("1X3=", "ACGT", "ACGT", "1X where a base is the same"),
        ("5=", "ACGT", "ACGTA", "beyond the read or the reference"),
        ("4=", "ACGT", "ACG", "beyond the read or the reference"),
        ("3=", "ACGT", "ACGT", "takes 3 bases, the read has 4"),
    ):
        with pytest.raises(ValueError, match=message):
            cigar.apply(cigar.parse(text), read, there)
    with pytest.raises(ValueError, match="'4Q' is no CIGAR"):
        cigar.parse("4Q")


def test_what_hangs_over_a_contig_is_clipped_and_what_does_not_is_aligned():
    contig = "TTACGTACGT"
    both = cigar.settle(cigar.parse("4I6=4I"), "GGTTACGTACGTCC", contig, 2)
    assert (cigar.write(both[0]), both[1]) == ("2S10=2S", 0)
    inner = cigar.settle(cigar.parse("1I3="), "GACG", contig, 2)
    assert (cigar.write(inner[0]), inner[1]) == ("1X3=", 1)
