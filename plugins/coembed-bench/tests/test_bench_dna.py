"""The parts of `coembed-bench dna`: truth, scoring, peers that are missing, and all of ours on a toy genome."""

from __future__ import annotations

import random
import shutil

import pytest

pytest.importorskip("edlib")

from coembed_bench.dna import SPARSE, aims, genome
from coembed_bench.dna import ours as systems
from coembed_bench.dna import peers as peer_programs
from coembed_bench.dna.peers import PEERS, Peer
from coembed_bench.dna.reads import Place, ReadSet, art, noisy, places, write_fasta, write_fastq
from coembed_bench.dna.score import recall, strict
from coembed_bench.report import Failed
from coembed_dna.esa.mapper import Mapper
from coembed_dna.esa.reads import Read, stream_reads
from coembed_dna.esa.reference import Reference
from coembed_dna.esa.tiling import Fragment
from coembed_dna.sequence import reverse_complement


def draw(length: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=length))


WHOLE = Reference({"one": draw(12_000, 1)})
HALF = WHOLE.part(0.5, 1)


def test_places_count_clipped_bases_back_and_leave_other_lines_out():
    def line(name: str, flag: int, text: str) -> str:
        return f"{name}\t{flag}\tc\t101\t60\t{text}\t*\t0\t0\tACGT\t*"

    lines = ["@SQ\tSN:c\tLN:9", line("a", 0, "5S20M"), line("b", 16, "20M5S"), line("u", 4, "*")]
    lines += [line("a", 256, "25M"), line("b", 2048, "9H16M"), line("h", 0, "3H10=2D5=")]
    assert dict(places(iter(lines))) == {
        "a": Place("c", 95, "+", 120),
        "b": Place("c", 100, "-", 120),
        "h": Place("c", 97, "+", 117),
    }


def test_strict_asks_for_contig_strand_and_ten_bases():
    truth = {name: Place("c", 100, "+") for name in "abcdef"}
    found = {
        "a": Place("c", 90, "+"),
        "b": Place("c", 110, "+"),
        "c": Place("c", 111, "+"),
        "d": Place("c", 100, "-"),
        "e": Place("x", 100, "+"),
    }
    assert strict(found, truth) == 2 / 6


def test_recall_wants_the_whole_read_in_the_fragment():
    fragments = [Fragment("c", 0, 100), Fragment("c", 80, 180), Fragment("d", 0, 100)]
    truth = [Place("c", 85, "+", 105), Place("c", 10, "-", 60)]
    assert recall([[0, 2, 1], [0, 1, -1]], fragments, truth) == {1: 0.5, 5: 1.0, 25: 1.0, 50: 1.0}


def test_noisy_reads_carry_their_place_in_the_whole_genome():
    case = noisy(HALF, {"one": 6000}, 100, 50, 0.0, 0.0)
    assert case.case == "100, 0% sub, 0% indel" and len(case.reads) == len(case.truth) == 50
    for read in case.reads:
        at = case.truth[read.name]
        there = WHOLE.contigs[at.contig][at.start : at.end]
        assert read.bases == (there if at.strand == "+" else reverse_complement(there)) and at.start >= 6000
    assert {at.strand for at in case.truth.values()} == {"+", "-"}


@pytest.mark.external
@pytest.mark.skipif(shutil.which("art_illumina") is None, reason="art_illumina is not installed")
def test_art_reads_are_those_of_the_machine_not_of_the_sam(tmp_path):
    case = art(HALF, {"one": 6000}, 100, 200, tmp_path)
    near = {"+": 0, "-": 0}
    for read in case.reads:
        at = case.truth[read.name]
        there = WHOLE.contigs[at.contig][at.start : at.start + 100]
        there = there if at.strand == "+" else reverse_complement(there)
        near[at.strand] += sum(a == b for a, b in zip(read.bases, there, strict=True)) > 90
    assert near["+"] + near["-"] > 0.9 * len(case.reads) and min(near.values()) > 30


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert PEERS[0].missing == "not installed: apt install bowtie2"
    with pytest.raises(Failed, match="apt install art-nextgen-simulation-tools"):
        art(HALF, {"one": 6000}, 100, 10, tmp_path)
    monkeypatch.setenv("COEMBED_CACHE", str(tmp_path))
    with pytest.raises(Failed, match="coembed-samples fetch genomes"):
        genome("G27")


def test_a_peer_runs_on_the_files_and_its_failure_is_told(tmp_path):
    assert peer_programs.PEERS is PEERS
    sam = "r\\t0\\tone\\t5\\t60\\t4M\\t*\\t0\\t0\\tACGT\\t*\\n"
    peer = Peer("a b", "x", (), ("sh", "-c", "cat {ref} > {index}"), ("sh", "-c", f"printf '{sam}' > {{out}}"))
    write_fasta(WHOLE, tmp_path / "ref.fa")
    write_fastq([Read("r", "ACGT")], tmp_path / "r.fq")
    assert list(stream_reads(tmp_path / "r.fq")) == [Read("r", "ACGT", "IIII")]
    assert peer.index(tmp_path / "ref.fa", tmp_path) == (tmp_path / "ref.fa").stat().st_size
    found, seconds = peer.align(tmp_path / "r.fq", tmp_path)
    assert found == {"r": Place("one", 4, "+", 8)} and seconds > 0
    broken = Peer("c", "x", (), ("sh", "-c", "echo no >&2; exit 3"), ())
    with pytest.raises(Failed, match="no"):
        broken.index(tmp_path / "ref.fa", tmp_path)


def test_rows_of_ours_on_a_toy_genome():
    case = noisy(HALF, {"one": 6000}, 100, 60, 0.02, 0.0)
    row = systems.measure(Mapper.build(WHOLE, fragment=500, step=300), case, 3)
    assert row["strict"] == 1.0 and row["R@5"] == 1.0 and row["reads"] == 60 and row["reads/CPU-s"] > 0
    wrong = ReadSet("wrong", case.reads, {name: Place("one", 0, "+", 100) for name in case.truth})
    assert systems.measure(Mapper.build(WHOLE, fragment=500, step=300), wrong, 3, 20)["strict"] == 0
    settings = systems.Settings(dim=16, heads=2, tokens=64, batch=8, fragment=(200, 300), read=(60, 90), steps=10)
    encoder = systems.transformer(settings, WHOLE.part(0, 0.5))
    before = encoder.state_dict()["embed_tokens.table.weight"].clone()
    assert systems.train(encoder, settings, WHOLE.part(0, 0.5)) > 0
    assert not before.equal(encoder.state_dict()["embed_tokens.table.weight"])
    assert {"strict", "R@1", "R@50"} <= set(systems.measure(Mapper.build(WHOLE, encoder), case, 5, 10))


def test_aims_are_those_of_the_judged_case():
    def row(system: str, **figures: float) -> dict[str, object]:
        return {"system": system, "case": "ART 150", **figures}

    rows = [
        row(SPARSE, strict=0.98, **{"reads/CPU-s": 1200.0, "R@1": 0.9}),
        row("bowtie2", strict=0.985),
        row("trained, 8 d", **{"R@1": 0.6}),
        row("untrained, 8 d", **{"R@1": 0.1}),
        {**row("k-mers, sparse", strict=0.1), "case": "ART 100"},
    ]
    near, rate, times = aims(rows)
    assert near.value == pytest.approx(0.5) and near.met() and rate.value == 1200 and rate.met()
    assert times.value == pytest.approx(6) and times.met()
    assert [aim.value for aim in aims(rows[:1])] == [None, 1200.0, None]
