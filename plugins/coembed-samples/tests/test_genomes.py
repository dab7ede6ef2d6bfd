"""The two genomes: their sequences, the coding regions of one, the windows of the other."""

from __future__ import annotations

import re
import sys
from collections import Counter
from importlib.resources import files

import pytest

import coembed
from coembed_samples.genomes import Chloroplast, Lambda, genome, joined


def opposite(sequence: str) -> str:
    return joined(sequence, [(0, len(sequence), -1)])


def test_the_sequences_are_those_of_the_records() -> None:
    assert len(genome("chloroplast")) == 154_478 and len(genome("lambda")) == 48_502
    assert set(genome("chloroplast")) == set(genome("lambda")) == set("ACGT")
    # Published facts: a repeat of 26,264 bp ends the chloroplast's circle and stands reversed before the small region.
    assert genome("chloroplast")[84_170:110_434] == opposite(genome("chloroplast")[128_214:])
    # EcoRI's cuts (G^AATTC) in lambda, as every catalogue of size markers lists the pieces.
    cuts = [match.start() + 1 for match in re.finditer("GAATTC", genome("lambda"))]
    pieces = [b - a for a, b in zip([0, *cuts], [*cuts, 48_502], strict=True)]
    assert sorted(pieces, reverse=True) == [21_226, 7_421, 5_804, 5_643, 4_878, 3_530]


def test_exons_are_joined_each_on_its_strand() -> None:
    assert joined("AAACCCGGT", [(6, 9, -1), (0, 3, 1)]) == "ACCAAA"
    assert joined("AACG", []) == ""


def test_coding_regions_run_from_start_to_stop() -> None:
    source = coembed.load("samples/chloroplast")
    assert isinstance(source, Chloroplast) and source.towers == ("dna", "protein", "text")
    records = list(source)
    assert len(source) == len(records) == len({r.id for r in records}) == len({r.extra["locus"] for r in records}) == 85
    for record in records:
        dna, protein = record["dna"], record["protein"]
        assert len(dna) == 3 * (len(protein) + 1), record.id
        assert dna[-3:] in {"TAA", "TAG", "TGA"} and protein[0] == "M" and protein.isalpha()
        assert record["text"] and record.group == record.label
        assert dna == joined(genome("chloroplast"), record.extra["exons"])
    starts = Counter((r.label, r["dna"][:3]) for r in records if not r["dna"].startswith("ATG"))
    assert starts == {("rps19", "GTG"): 1, ("ycf1", "GTG"): 2, ("ndhD", "ACG"): 1}
    assert Counter(r.extra["exception"] for r in records) == {"": 82, "trans-splicing": 2, "RNA editing": 1}
    assert Counter(len(r.extra["exons"]) for r in records)[1] == 70
    assert sum(len(r["dna"]) for r in records) == sum(e - s for r in records for s, e, _ in r.extra["exons"])


def test_dna_translates_to_protein() -> None:
    seq = pytest.importorskip("Bio.Seq")
    for record in Chloroplast():
        translated = str(seq.Seq(record["dna"]).translate(table=11))
        assert translated[-1] == "*" and "*" not in translated[:-1]
        # The first codon may be GTG, or ACG that is edited in the RNA: both give M.
        assert "M" + translated[1:-1] == record["protein"], record.id


def test_text_belongs_to_its_gene() -> None:
    records = {record.id: record for record in Chloroplast()}
    large = records["NP_051067.1"]
    assert large.label == "rbcL" and large["text"].startswith("ribulose-1,5-bisphosphate carboxylase")
    assert large["protein"].startswith("MSPQTETKASVGFKAGVKEYKLTYYTPEY") and len(large["protein"]) == 479
    for record in records.values():
        if gene := re.fullmatch(r"rp([ls])(\d+)", str(record.label)):
            assert record["text"] == f"ribosomal protein {gene[1].upper()}{gene[2]}", record.id


def test_both_copies_of_a_gene_are_one_group() -> None:
    by_gene: dict[str, list[str]] = {}
    for record in Chloroplast():
        by_gene.setdefault(str(record.group), []).append(record["dna"])
    twice = {gene: dnas for gene, dnas in by_gene.items() if len(dnas) > 1}
    assert len(by_gene) == 78 and all(len(dnas) == 2 for dnas in twice.values())
    assert set(twice) == {"rps12", "rpl2", "rpl23", "ycf2", "ndhB", "rps7", "ycf1"}
    assert {gene for gene, (one, other) in twice.items() if one != other} == {"ycf1"}
    short, long = sorted(twice["ycf1"], key=len)
    assert short[:1030] == long[:1030] and len(short) == 1032


def test_no_gene_protein_or_product_is_on_both_sides_of_a_split() -> None:
    for seed in range(5):
        train, held = Chloroplast().split(0.2, seed=seed)
        assert len(train) + len(held) == 85
        for value in (lambda r: r.group, lambda r: r["dna"], lambda r: r["protein"], lambda r: r["text"]):
            assert not {value(r) for r in train} & {value(r) for r in held}


@pytest.mark.parametrize("size", [1, 511, 512, 48_502, 100_000])
def test_windows_of_lambda_join_to_the_genome(size: int) -> None:
    source = coembed.load("samples/lambda", size=size)
    assert isinstance(source, Lambda) and source.towers == ("dna",)
    records = list(source)
    assert "".join(r["dna"] for r in records) == genome("lambda")
    assert len(source) == len(records) == len({r.id for r in records})
    assert {len(r["dna"]) for r in records[:-1]} <= {size} and 0 < len(records[-1]["dna"]) <= size
    for record in records[:3] + records[-1:]:
        start, end = record.extra["start"], record.extra["end"]
        assert record["dna"] == genome("lambda")[start:end] and record.id == f"lambda:{start}-{end}"


def test_sources_need_no_biopython_and_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Bio", None)
    for source in (Chloroplast(), Lambda()):
        assert list(source) == list(source)


def test_wrong_arguments_say_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"'phix'.*chloroplast, lambda"):
        genome("phix")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size 0"):
        Lambda(size=0)


def test_carried_data_is_small() -> None:
    data = files("coembed_samples") / "data"
    sizes = {folder.name: sum(len(path.read_bytes()) for path in folder.iterdir()) for folder in data.iterdir()}
    assert sizes["genomes"] < 100_000 and sum(sizes.values()) < 5_000_000
