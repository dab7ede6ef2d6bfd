"""Protein files: FASTA, Swiss-Prot, translations of GenBank records."""

from __future__ import annotations

import gzip

import pytest
from Bio.Seq import Seq
from Bio.SeqFeature import SeqFeature, SimpleLocation
from Bio.SeqRecord import SeqRecord

import coembed
from coembed_protein.files import records, sequences

SWISS = """\
ID   TEST_HUMAN              Reviewed;          12 AA.
AC   P00001;
DT   01-JAN-2000, integrated into UniProtKB/Swiss-Prot.
DT   01-JAN-2000, sequence version 1.
DT   01-JAN-2020, entry version 10.
DE   RecName: Full=Made for a test;
OS   Homo sapiens (Human).
OC   Eukaryota.
OX   NCBI_TaxID=9606;
RN   [1]
RP   NUCLEOTIDE SEQUENCE.
RA   Nobody N.;
RL   Unpublished.
PE   1: Evidence at protein level;
SQ   SEQUENCE   12 AA;  1349 MW;  0123456789ABCDEF CRC64;
     MKTAYIAKQR QI
//
"""


def genbank(*cds: dict[str, list[str]], molecule: str = "DNA", text: str = "ATGAAATAA") -> str:
    features = [SeqFeature(SimpleLocation(0, 9, 1), type="CDS", qualifiers=said) for said in cds]
    features.append(SeqFeature(SimpleLocation(0, 9, 1), type="gene", qualifiers={"gene": ["abc"]}))
    record = SeqRecord(Seq(text), id="X1.1", name="X1", annotations={"molecule_type": molecule}, features=features)
    return record.format("genbank")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">a\nMKV\nLA\n>b\nggw*\n", [("a", "MKVLA"), ("b", "ggw*")]),
        (SWISS, [("P00001", "MKTAYIAKQRQI")]),
        (
            genbank(
                {"protein_id": ["P1"], "translation": ["MK"], "product": ["a thing"]},
                {"locus_tag": ["gone"], "pseudo": [""]},
                {"locus_tag": ["b2"], "translation": ["MKK"]},
                {"translation": ["MKKK"]},
            ),
            [("P1", "MK"), ("b2", "MKK"), ("X1.1_cds4", "MKKK")],
        ),
        (genbank(molecule="protein", text="MKVLAGGWW"), [("X1.1", "MKVLAGGWW")]),
    ],
    ids=["fasta", "swiss", "genbank", "genbank of proteins"],
)
def test_formats(tmp_path, text, expected, packed):
    path = tmp_path / "file.dat"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert [(record.id, str(record.seq)) for record in records(path)] == expected
    assert coembed.load("protein/kmer").read(path) == sequences(path) == [letters for _, letters in expected]
    assert coembed.load("protein/kmer").encode(sequences(path)).present.all()


def test_a_translation_has_its_product_as_description(tmp_path):
    path = tmp_path / "one.gb"
    path.write_text(genbank({"protein_id": ["P1"], "translation": ["MK"], "product": ["DNA helicase"]}))
    assert next(records(path)).description == "DNA helicase"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty, it holds no sequences"),
        (genbank({"locus_tag": ["x"]}), r"no coding sequence \(CDS\) of it has a /translation"),
        ("@r\nAC\n+\nII\n", "is FASTQ; FASTA, Swiss-Prot, GenBank is expected"),
        ("MKV\n", "begins with 'MKV'"),
        (SWISS.replace("SQ   SEQUENCE", "SEQUENCE"), "Swiss-Prot is broken after record 0"),
    ],
)
def test_files_without_proteins_are_named(tmp_path, text, message):
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        sequences(path)
    assert "bad.txt" in str(caught.value)
