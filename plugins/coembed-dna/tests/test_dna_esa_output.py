"""SAM and PAF lines, reads from files, and the command."""

from __future__ import annotations

import gzip
import random

import pytest

from coembed_dna.esa import cigar
from coembed_dna.esa.cli import main
from coembed_dna.esa.mapper import Mapper
from coembed_dna.esa.output import paf, sam
from coembed_dna.esa.reads import Read, stream_reads
from coembed_dna.esa.reference import Reference
from coembed_dna.sequence import reverse_complement

pytest.importorskip("edlib")
pytest.importorskip("scipy")


def draw(length: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=length))


CONTIGS = {"one": draw(3000, 1), "two": draw(1500, 2)}
READ = CONTIGS["two"][500:600]
OTHER = reverse_complement(CONTIGS["one"][20:70] + "A" + CONTIGS["one"][70:120])
READS = [
    Read("plain", READ, "I" * 100),
    Read("turned", OTHER, "#" + "I" * (len(OTHER) - 1)),
    Read("foreign", draw(100, 9)),
    Read("over", "TTTTTTTT" + CONTIGS["two"][:90]),
]


@pytest.fixture(scope="module")
def mapper() -> Mapper:
    return Mapper.build(CONTIGS, fragment=400, step=200)


@pytest.fixture
def files(tmp_path):
    """A reference, and reads in a gzipped FASTQ and a FASTA file, one of them bad."""
    (tmp_path / "ref.fa").write_text("".join(f">{name}\n{text}\n" for name, text in CONTIGS.items()), "utf-8")
    lines = "".join(f"@{r.name} x\n{r.bases}\n+\n{r.quality or 'I' * len(r.bases)}\n" for r in READS)
    (tmp_path / "a.fq.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "b.fa").write_text(f">last\n{READ.lower()}\n>gaps\nAC--GT\n", "utf-8")
    return tmp_path


def test_sam_says_what_was_read_and_where(mapper):
    lines = list(sam(mapper.align(READS), mapper.reference))
    assert lines[1:3] == ["@SQ\tSN:one\tLN:3000", "@SQ\tSN:two\tLN:1500"] and lines[0].startswith("@HD\tVN:1.6")
    rows = {line.split("\t")[0]: line.split("\t") for line in lines[4:]}
    assert list(rows) == [read.name for read in READS]
    assert rows["plain"][1:] == ["0", "two", "501", "60", "100=", "*", "0", "0", READ, "I" * 100, "NM:i:0", "AS:i:200"]
    assert rows["foreign"][1:6] == ["4", "*", "0", "0", "*"] and rows["foreign"][10:] == ["*"]
    turned = rows["turned"]
    assert turned[1:4] == ["16", "one", "21"] and turned[9] == reverse_complement(OTHER)
    assert turned[10] == "I" * (len(OTHER) - 1) + "#" and turned[11:] == ["NM:i:1", f"AS:i:{2 * len(OTHER) - 3}"]
    for name in ("plain", "turned", "over"):
        _, _, contig, at, _, text, _, _, _, bases, *_ = rows[name]
        assert cigar.apply(cigar.parse(text), bases, CONTIGS[contig][int(at) - 1 :]) == bases


def test_paf_counts_in_the_directions_it_should(mapper):
    rows = {line.split("\t")[0]: line.split("\t") for line in paf(mapper.align(READS), mapper.reference)}
    assert list(rows) == ["plain", "turned", "over"]
    assert rows["plain"][1:12] == ["100", "0", "100", "+", "two", "1500", "500", "600", "100", "100", "60"]
    assert rows["turned"][4:9] == ["-", "one", "3000", "20", "120"] and rows["turned"][9:11] == ["100", "101"]
    assert rows["over"][2:4] == ["8", "98"] and rows["over"][-1] == "cg:Z:90="
    (back,) = paf(mapper.align([Read("back", reverse_complement(READS[3].bases))]), mapper.reference)
    assert back.split("\t")[2:5] == ["0", "90", "-"]


def test_reads_stream_from_files(files):
    found = list(stream_reads(files / "a.fq.gz"))
    assert [(read.name, read.bases) for read in found] == [(read.name, read.bases) for read in READS]
    assert found[1].quality == READS[1].quality
    assert [(read.name, read.quality) for read in stream_reads(files / "b.fa")] == [("last", None), ("gaps", None)]


def test_broken_files_are_named_with_the_last_good_read(tmp_path):
    path = tmp_path / "cut.fq"
    path.write_text("@one\nACGT\n+\nIIII\n@two\nACGT\n+\nII\n", "utf-8")
    with pytest.raises(ValueError, match=r"cut\.fq: broken after read 1, 'one'"):
        list(stream_reads(path))
    path.write_text("LOCUS something\n", "utf-8")
    with pytest.raises(ValueError, match=r"cut\.fq: is GenBank; FASTQ, FASTA is expected"):
        list(stream_reads(path))


def test_the_command_indexes_and_aligns(files, capsys):
    assert main(["index", str(files / "ref.fa"), str(files / "index"), "--fragment", "400", "--step", "200"]) == 0
    assert "each read of up to 201 bases" in capsys.readouterr().err
    out = files / "out.sam"
    assert main(["align", str(files / "index"), str(files / "a.fq.gz"), str(files / "b.fa"), "-o", str(out)]) == 0
    told = capsys.readouterr().err
    assert "4 of 5 reads placed, 1 bad reads left out" in told and "read 'gaps' (number 6): got gaps '-'" in told
    lines = out.read_text("utf-8").splitlines()
    reads = [*stream_reads(files / "a.fq.gz"), Read("last", READ)]
    assert lines[4:] == list(sam(Mapper.load(files / "index").align(reads), Reference(CONTIGS)))[4:]
    assert main(["align", str(files / "ref.fa"), str(files / "b.fa"), "--paf", "-q"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("last\t100\t0\t100\t+\ttwo") and captured.err.count("\n") == 1


def test_the_command_says_what_is_wrong_and_leaves_nothing_half_written(files, capsys):
    (files / "bad.fq").write_text("@one\nACGT\n+\nIIII\n@two\nACGT\n+\nII\n", "utf-8")
    out = files / "out.sam"
    assert main(["align", str(files / "ref.fa"), str(files / "bad.fq"), "-o", str(out), "-q"]) == 1
    assert "bad.fq: broken after read 1" in capsys.readouterr().err
    assert not out.exists() and not list(files.glob(".*part"))
    assert main(["align", str(files / "b.fa"), str(files / "missing.fq")]) == 1
    assert main(["index", str(files / "ref.fa"), str(files)]) == 1
    assert "not empty" in capsys.readouterr().err
