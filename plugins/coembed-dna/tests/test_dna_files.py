"""Sequence files: formats by content, gzipped, streamed, and broken ones named."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
from Bio import SeqIO
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord

import coembed
from coembed_dna.files import records, sequences

FASTA = ">one first\nACGT\nacgt\n>two\nGGNN\n"
FASTQ = "@r1\nACGT\n+\nIIII\n@r2\nGGCA\n+r2\n!!!!\n"


def genbank() -> str:
    record = SeqRecord(Seq("ACGTACGTAA"), id="X1.1", name="X1", annotations={"molecule_type": "DNA"})
    return record.format("genbank")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FASTA, ["ACGTacgt", "GGNN"]),
        ("\n\n" + FASTA.replace("\n", "\r\n"), ["ACGTacgt", "GGNN"]),
        ("\ufeff" + FASTA, ["ACGTacgt", "GGNN"]),
        (FASTQ, ["ACGT", "GGCA"]),
        (genbank(), ["ACGTACGTAA"]),
    ],
    ids=["fasta", "blank lines", "byte order mark", "fastq", "genbank"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_formats_are_told_by_content(tmp_path, text, expected, packed):
    path = tmp_path / "file.dat"
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    assert sequences(path) == expected
    assert coembed.load("dna/kmer").read(path) == expected


def test_records_stream(tmp_path, monkeypatch):
    path = tmp_path / "many.fa"
    path.write_text("".join(f">r{i}\nACGT\n" for i in range(5)) + ">bad")
    seen = []
    parse = SeqIO.parse

    def watched(handle, kind):
        for record in parse(handle, kind):
            seen.append(record.id)
            yield record

    monkeypatch.setattr(SeqIO, "parse", watched)
    stream = records(path)
    assert isinstance(stream, Iterator) and next(stream).id == "r0" and seen == ["r0"]


def test_a_record_keeps_its_name_and_quality(tmp_path):
    path = tmp_path / "reads.fq"
    path.write_text(FASTQ)
    first = next(records(path))
    assert first.id == "r1" and first.letter_annotations["phred_quality"] == [40] * 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty, it holds no sequences"),
        (b"\n \n", "empty, it holds no sequences"),
        (b"ACGT\n", r"begins with 'ACGT'; FASTA, FASTQ, GenBank is expected"),
        (b"ID   X_HUMAN\n", "is Swiss-Prot; FASTA, FASTQ, GenBank is expected"),
        (b"@r1\nACGT\n+\nII\n", r"FASTQ is broken after record 0: Lengths of sequence and quality"),
        (b"@r1\nACGT\n+\nIIII\n@r2\nAC\n", r"FASTQ is broken after record 1"),
        (gzip.compress(FASTA.encode() * 50, mtime=0)[:40], "can't be read as a sequence file"),
        (b"\x1f\x8bnot gzip at all", "can't be read as a sequence file"),
        (b">x\nAC\xff\xfe\x00GT", "a binary file"),
    ],
)
def test_broken_files_are_named(tmp_path, data, message):
    path = tmp_path / "broken.seq"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        sequences(path)
    assert "broken.seq" in str(caught.value)


def test_missing_and_without_a_sequence(tmp_path):
    with pytest.raises(ValueError, match=r"none\.fa: can't be read as a sequence file: No such file"):
        sequences(tmp_path / "none.fa")
    text = genbank()
    path = tmp_path / "contig.gb"
    path.write_text(text[: text.index("ORIGIN")] + "CONTIG      join(AB1.1:1..10)\n//\n")
    with pytest.raises(ValueError, match=r"contig\.gb: record X1\.1 has no sequence"):
        sequences(path)
